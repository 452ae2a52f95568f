/* SPDX-FileCopyrightText: 2026 civigate contributors
 * SPDX-License-Identifier: EUPL-1.2
 *
 * Serves /dev/spidev0.0, /dev/spidev0.1, /dev/i2c-1 and /dev/gpiochip0 from a virtual concentrator to any program
 * that is started with this library preloaded. CIVIGATE_EMULATOR names the Unix socket of its server; the messages
 * on it are described in drivers/emulator/wire.py.
 *
 * Each opened device is a connection, and its descriptor is the connection's: closing, polling and
 * close-on-exec are the kernel's business. What programs do with these devices is answered here: SPI messages,
 * read and write on SPI; combined and simple I2C transactions, and SMBus calls of up to 32 bytes; both interfaces of the
 * GPIO character device, the second (Linux 5.10) and the first, which libgpiod 1 uses. The limits are the kernel's: 4096
 * bytes in an SPI message, 42 messages in an I2C transaction, 64 lines in a request.
 *
 * Not served: GPIO through sysfs, edges and events, SMBus process calls, block reads and checksums, duplicated
 * descriptors, and programs that are linked statically or make system calls themselves. A child shares its parent's open
 * devices without a lock.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <linux/i2c-dev.h>
#include <linux/i2c.h>
#include <linux/spi/spidev.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define DESCRIPTORS 1024
#define SPI_LIMIT 4096
#define I2C_LIMIT 8192
#define HEADER 8
#define GPIO_LINES 54
#define GPIO_DEVICE_MAJOR 254

enum operation { TRANSFER = 1, SET_LINE = 3, GET_LINE = 4, I2C = 5, ANSWER = 0x80 };
enum kind { NOT_OURS, SPI, I2C_BUS, GPIO_CHIP, GPIO_REQUEST, GPIO_HANDLE };

/* An open device. A request of GPIO lines is one, too; the first interface calls it a handle. */
struct device {
    enum kind kind;
    uint8_t chip_select;
    uint8_t spi_mode;
    uint8_t spi_bits;
    uint32_t spi_hz;
    uint16_t i2c_address;
    uint32_t lines;
    uint8_t offsets[GPIO_V2_LINES_MAX];
    pthread_mutex_t busy;
};

struct node {
    const char *path;
    enum kind kind;
    uint8_t chip_select;
    unsigned major, minor;
};

static const struct node nodes[] = {
    {"/dev/spidev0.0", SPI, 0, 153, 0},
    {"/dev/spidev0.1", SPI, 1, 153, 1},
    {"/dev/i2c-1", I2C_BUS, 0, 89, 1},
    {"/dev/gpiochip0", GPIO_CHIP, 0, GPIO_DEVICE_MAJOR, 0},
};
#define NODES (sizeof nodes / sizeof nodes[0])

static struct device *devices[DESCRIPTORS];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

/* Which request holds a line, as descriptor + 1; what an output line was driven to last lives in the emulator. */
static int line_owner[GPIO_LINES];
static uint64_t line_flags[GPIO_LINES];

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* The node of a path; NULL for paths that are not ours. *missing tells a device of ours that does not exist. */
static const struct node *node_of(const char *path, int *missing)
{
    static const char *const prefixes[] = {"/dev/spidev", "/dev/i2c-", "/dev/gpiochip"};
    *missing = 0;
    if (path == NULL || strncmp(path, "/dev/", 5) != 0)
        return NULL;
    for (size_t i = 0; i < NODES; i++)
        if (strcmp(path, nodes[i].path) == 0)
            return &nodes[i];
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0)
            *missing = 1;
    return NULL;
}

static struct device *device_of(int fd)
{
    if (fd < 0 || fd >= DESCRIPTORS)
        return NULL;
    return __atomic_load_n(&devices[fd], __ATOMIC_ACQUIRE);
}

static int send_all(int fd, const uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -1;
        data += sent;
        length -= (size_t)sent;
    }
    return 0;
}

static int receive_all(int fd, uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t got = recv(fd, data, length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        data += got;
        length -= (size_t)got;
    }
    return 0;
}

/* Exchange one message with the emulator. Returns the length of the answer's body, or -1 with errno set. */
static int exchange(int fd, enum operation operation, uint8_t item, uint16_t count, const uint8_t *body,
                    uint32_t length, uint8_t *answer, uint32_t limit)
{
    uint8_t message[HEADER + SPI_LIMIT + I2C_LIMIT] = {
        (uint8_t)operation, item, (uint8_t)count, (uint8_t)(count >> 8),
        (uint8_t)length, (uint8_t)(length >> 8), (uint8_t)(length >> 16), (uint8_t)(length >> 24),
    };
    uint32_t size;
    if (length > sizeof message - HEADER) {
        errno = EMSGSIZE;
        return -1;
    }
    if (length > 0)
        memcpy(message + HEADER, body, length);
    if (send_all(fd, message, HEADER + length) != 0 || receive_all(fd, message, HEADER) != 0) {
        errno = ENODEV; /* the emulator is gone, as if the hardware had been pulled */
        return -1;
    }
    size = (uint32_t)message[4] | (uint32_t)message[5] << 8 | (uint32_t)message[6] << 16 | (uint32_t)message[7] << 24;
    if (message[0] != (operation | ANSWER) || size > limit) {
        errno = EPROTO;
        return -1;
    }
    if (message[1] != 0) {
        errno = message[1];
        return -1;
    }
    if (size > 0 && receive_all(fd, answer, size) != 0) {
        errno = ENODEV;
        return -1;
    }
    return (int)size;
}

static int connect_to_emulator(int flags)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("CIVIGATE_EMULATOR");
    int fd;
    if (path == NULL || strlen(path) >= sizeof address.sun_path) {
        errno = ENODEV;
        return -1;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | (flags & O_CLOEXEC ? SOCK_CLOEXEC : 0), 0);
    if (fd < 0)
        return -1;
    if (fd >= DESCRIPTORS || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        REAL(close)(fd);
        errno = ENODEV;
        return -1;
    }
    return fd;
}

static int add_device(enum kind kind, uint8_t chip_select, int flags)
{
    struct device *device;
    int fd = connect_to_emulator(flags);
    if (fd < 0)
        return -1;
    device = calloc(1, sizeof *device);
    if (device == NULL) {
        REAL(close)(fd);
        errno = ENOMEM;
        return -1;
    }
    device->kind = kind;
    device->chip_select = chip_select;
    device->spi_bits = 8;
    device->spi_hz = 125000000;
    pthread_mutex_init(&device->busy, NULL);
    __atomic_store_n(&devices[fd], device, __ATOMIC_RELEASE);
    return fd;
}

/* Exchange one frame; either side may be NULL. Returns its length, or -1 with errno set. */
static int spi_frame(int fd, struct device *device, const uint8_t *tx, uint8_t *rx, uint32_t length)
{
    uint8_t out[2 + SPI_LIMIT] = {0}, in[2 + SPI_LIMIT];
    int got;
    if (length == 0)
        return 0;
    if (length > SPI_LIMIT) {
        errno = EMSGSIZE;
        return -1;
    }
    out[0] = (uint8_t)length;
    out[1] = (uint8_t)(length >> 8);
    if (tx != NULL)
        memcpy(out + 2, tx, length);
    got = exchange(fd, TRANSFER, device->chip_select, 1, out, length + 2, in, sizeof in);
    if (got < 0)
        return -1;
    if ((uint32_t)got != length + 2) {
        errno = EPROTO;
        return -1;
    }
    if (rx != NULL)
        memcpy(rx, in + 2, length);
    return (int)length;
}

/* One message: transfers under one chip select, unless one of them asks for a change between. */
static int spi_message(int fd, struct device *device, const struct spi_ioc_transfer *transfers, size_t count)
{
    uint8_t out[SPI_LIMIT], in[SPI_LIMIT];
    size_t first = 0;
    uint32_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (transfers[i].len > SPI_LIMIT - total) {
            errno = EMSGSIZE;
            return -1;
        }
        total += transfers[i].len;
    }
    while (first < count) {
        size_t end = first;
        uint32_t length = 0;
        do {
            const struct spi_ioc_transfer *transfer = &transfers[end];
            if (transfer->tx_buf != 0)
                memcpy(out + length, (const void *)(uintptr_t)transfer->tx_buf, transfer->len);
            else
                memset(out + length, 0, transfer->len);
            length += transfer->len;
        } while (!transfers[end++].cs_change && end < count);
        if (spi_frame(fd, device, out, in, length) < 0)
            return -1;
        length = 0;
        for (; first < end; first++) {
            if (transfers[first].rx_buf != 0)
                memcpy((void *)(uintptr_t)transfers[first].rx_buf, in + length, transfers[first].len);
            length += transfers[first].len;
        }
    }
    return (int)total;
}

static int spi_ioctl(int fd, struct device *device, unsigned long request, void *argument)
{
    if (_IOC_TYPE(request) != SPI_IOC_MAGIC) {
        errno = ENOTTY;
        return -1;
    }
    if (_IOC_NR(request) == 0 && _IOC_DIR(request) == _IOC_WRITE)
        return spi_message(fd, device, argument, _IOC_SIZE(request) / sizeof(struct spi_ioc_transfer));
    switch (request) {
    case SPI_IOC_RD_MODE:
        *(uint8_t *)argument = device->spi_mode;
        return 0;
    case SPI_IOC_RD_MODE32:
        *(uint32_t *)argument = device->spi_mode;
        return 0;
    case SPI_IOC_WR_MODE:
        device->spi_mode = *(uint8_t *)argument;
        return 0;
    case SPI_IOC_WR_MODE32:
        device->spi_mode = (uint8_t) * (uint32_t *)argument;
        return 0;
    case SPI_IOC_RD_LSB_FIRST:
        *(uint8_t *)argument = 0;
        return 0;
    case SPI_IOC_WR_LSB_FIRST:
        if (*(uint8_t *)argument == 0)
            return 0;
        errno = EINVAL;
        return -1;
    case SPI_IOC_RD_BITS_PER_WORD:
        *(uint8_t *)argument = device->spi_bits;
        return 0;
    case SPI_IOC_WR_BITS_PER_WORD:
        if (*(uint8_t *)argument != 0 && *(uint8_t *)argument != 8) {
            errno = EINVAL;
            return -1;
        }
        return 0;
    case SPI_IOC_RD_MAX_SPEED_HZ:
        *(uint32_t *)argument = device->spi_hz;
        return 0;
    case SPI_IOC_WR_MAX_SPEED_HZ:
        device->spi_hz = *(uint32_t *)argument;
        return 0;
    default:
        errno = ENOTTY;
        return -1;
    }
}

static int i2c_transfer(int fd, const struct i2c_msg *messages, uint32_t count)
{
    uint8_t out[I2C_LIMIT], in[I2C_LIMIT];
    uint32_t length = 0, at = 0;
    int got;
    if (count == 0 || count > I2C_RDWR_IOCTL_MAX_MSGS) {
        errno = EINVAL;
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        int reads = messages[i].flags & I2C_M_RD;
        uint32_t data = reads ? 0 : messages[i].len;
        if (messages[i].addr != messages[0].addr || messages[i].addr > 0x7F) {
            errno = EOPNOTSUPP;
            return -1;
        }
        if (length + 3 + data > sizeof out || messages[i].len > I2C_LIMIT / 2) {
            errno = EINVAL;
            return -1;
        }
        out[length++] = reads ? 1 : 0;
        out[length++] = (uint8_t)messages[i].len;
        out[length++] = (uint8_t)(messages[i].len >> 8);
        memcpy(out + length, messages[i].buf, data);
        length += data;
    }
    got = exchange(fd, I2C, (uint8_t)messages[0].addr, (uint16_t)count, out, length, in, sizeof in);
    if (got < 0)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        if (!(messages[i].flags & I2C_M_RD))
            continue;
        if (at + 2 + messages[i].len > (uint32_t)got) {
            errno = EPROTO;
            return -1;
        }
        memcpy(messages[i].buf, in + at + 2, messages[i].len);
        at += 2 + messages[i].len;
    }
    return (int)count;
}

static int smbus_write(int fd, struct device *device, uint8_t *data, uint16_t length)
{
    struct i2c_msg message = {.addr = device->i2c_address, .len = length, .buf = data};
    return i2c_transfer(fd, &message, 1) < 0 ? -1 : 0;
}

/* Write a command if there is one, and read. */
static int smbus_read(int fd, struct device *device, uint8_t *command, uint8_t *data, uint16_t length)
{
    struct i2c_msg messages[2] = {
        {.addr = device->i2c_address, .len = 1, .buf = command},
        {.addr = device->i2c_address, .flags = I2C_M_RD, .len = length, .buf = data},
    };
    return (command != NULL ? i2c_transfer(fd, messages, 2) : i2c_transfer(fd, messages + 1, 1)) < 0 ? -1 : 0;
}

static int smbus_call(int fd, struct device *device, const struct i2c_smbus_ioctl_data *call)
{
    union i2c_smbus_data *data = call->data;
    int reads = call->read_write == I2C_SMBUS_READ;
    uint8_t out[2 + I2C_SMBUS_BLOCK_MAX] = {call->command}, in[2];
    switch (call->size) {
    case I2C_SMBUS_QUICK:
        return reads ? smbus_read(fd, device, NULL, in, 0) : smbus_write(fd, device, out, 0);
    case I2C_SMBUS_BYTE:
        return reads ? smbus_read(fd, device, NULL, &data->byte, 1) : smbus_write(fd, device, out, 1);
    case I2C_SMBUS_BYTE_DATA:
        if (reads)
            return smbus_read(fd, device, out, &data->byte, 1);
        out[1] = data->byte;
        return smbus_write(fd, device, out, 2);
    case I2C_SMBUS_WORD_DATA:
        if (reads) {
            if (smbus_read(fd, device, out, in, 2) < 0)
                return -1;
            data->word = (uint16_t)(in[0] | in[1] << 8);
            return 0;
        }
        out[1] = (uint8_t)data->word;
        out[2] = (uint8_t)(data->word >> 8);
        return smbus_write(fd, device, out, 3);
    case I2C_SMBUS_BLOCK_DATA:
    case I2C_SMBUS_I2C_BLOCK_BROKEN:
    case I2C_SMBUS_I2C_BLOCK_DATA: {
        uint8_t length = data->block[0], counted = call->size == I2C_SMBUS_BLOCK_DATA;
        if (length == 0 || length > I2C_SMBUS_BLOCK_MAX) {
            errno = EINVAL;
            return -1;
        }
        if (reads && !counted)
            return smbus_read(fd, device, out, data->block + 1, length);
        if (reads)
            break;
        memcpy(out + 1, data->block + !counted, (size_t)length + counted);
        return smbus_write(fd, device, out, (uint16_t)(1 + length + counted));
    }
    default:
        break;
    }
    errno = EOPNOTSUPP;
    return -1;
}

static int i2c_ioctl(int fd, struct device *device, unsigned long request, void *argument)
{
    const struct i2c_rdwr_ioctl_data *data = argument;
    switch (request) {
    case I2C_RDWR:
        return i2c_transfer(fd, data->msgs, data->nmsgs);
    case I2C_SLAVE:
    case I2C_SLAVE_FORCE:
        if ((uintptr_t)argument > 0x7F) {
            errno = EINVAL;
            return -1;
        }
        device->i2c_address = (uint16_t)(uintptr_t)argument;
        return 0;
    case I2C_FUNCS:
        *(unsigned long *)argument = I2C_FUNC_I2C | I2C_FUNC_SMBUS_QUICK | I2C_FUNC_SMBUS_BYTE |
                                     I2C_FUNC_SMBUS_BYTE_DATA | I2C_FUNC_SMBUS_WORD_DATA |
                                     I2C_FUNC_SMBUS_WRITE_BLOCK_DATA | I2C_FUNC_SMBUS_I2C_BLOCK;
        return 0;
    case I2C_SMBUS:
        return smbus_call(fd, device, argument);
    case I2C_RETRIES:
    case I2C_TIMEOUT:
        return 0;
    default:
        errno = ENOTTY;
        return -1;
    }
}

static int line_set(int fd, uint8_t line, int high)
{
    uint8_t level = high != 0;
    return exchange(fd, SET_LINE, line, 1, &level, 1, NULL, 0);
}

static int line_get(int fd, uint8_t line)
{
    uint8_t level;
    int got = exchange(fd, GET_LINE, line, 1, NULL, 0, &level, 1);
    return got < 0 ? -1 : level;
}

/* The flags of one line of a request: its own attribute, or the request's. */
static uint64_t flags_of(const struct gpio_v2_line_config *config, uint32_t index)
{
    for (uint32_t i = 0; i < config->num_attrs; i++)
        if (config->attrs[i].attr.id == GPIO_V2_LINE_ATTR_ID_FLAGS && config->attrs[i].mask >> index & 1)
            return config->attrs[i].attr.flags;
    return config->flags;
}

static int value_of(const struct gpio_v2_line_config *config, uint32_t index)
{
    for (uint32_t i = 0; i < config->num_attrs; i++)
        if (config->attrs[i].attr.id == GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES && config->attrs[i].mask >> index & 1)
            return config->attrs[i].attr.values >> index & 1;
    return 0;
}

static int configure_lines(int fd, struct device *request, const struct gpio_v2_line_config *config)
{
    if (config->num_attrs > GPIO_V2_LINE_NUM_ATTRS_MAX) {
        errno = EINVAL;
        return -1;
    }
    for (uint32_t i = 0; i < request->lines; i++) {
        uint8_t line = request->offsets[i];
        uint64_t flags = flags_of(config, i);
        if (flags & (GPIO_V2_LINE_FLAG_EDGE_RISING | GPIO_V2_LINE_FLAG_EDGE_FALLING)) {
            errno = EOPNOTSUPP;
            return -1;
        }
        line_flags[line] = flags;
        if (flags & GPIO_V2_LINE_FLAG_OUTPUT &&
            line_set(fd, line, value_of(config, i) != !!(flags & GPIO_V2_LINE_FLAG_ACTIVE_LOW)) < 0)
            return -1;
    }
    return 0;
}

static void release_lines(int fd)
{
    for (int line = 0; line < GPIO_LINES; line++)
        if (line_owner[line] == fd + 1) {
            line_owner[line] = 0;
            line_flags[line] = 0;
        }
}

static int request_lines(struct gpio_v2_line_request *request)
{
    struct device *device;
    int fd;
    if (request->num_lines == 0 || request->num_lines > GPIO_V2_LINES_MAX) {
        errno = EINVAL;
        return -1;
    }
    fd = add_device(GPIO_REQUEST, 0, O_CLOEXEC);
    if (fd < 0)
        return -1;
    device = devices[fd];
    pthread_mutex_lock(&table);
    for (uint32_t i = 0; i < request->num_lines; i++) {
        uint32_t line = request->offsets[i];
        if (line >= GPIO_LINES || line_owner[line] != 0) {
            release_lines(fd);
            pthread_mutex_unlock(&table);
            close(fd);
            errno = line >= GPIO_LINES ? EINVAL : EBUSY;
            return -1;
        }
        line_owner[line] = fd + 1;
        device->offsets[i] = (uint8_t)line;
        device->lines = i + 1;
    }
    pthread_mutex_unlock(&table);
    if (configure_lines(fd, device, &request->config) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    request->fd = fd;
    return 0;
}

static int line_info(struct gpio_v2_line_info *info)
{
    uint32_t line = info->offset;
    if (line >= GPIO_LINES) {
        errno = EINVAL;
        return -1;
    }
    memset(info, 0, sizeof *info);
    info->offset = line;
    memcpy(info->name, "GPIO", 4);
    if (line >= 10)
        info->name[4] = (char)('0' + line / 10);
    info->name[line >= 10 ? 5 : 4] = (char)('0' + line % 10);
    info->flags = line_flags[line] != 0 ? line_flags[line] : GPIO_V2_LINE_FLAG_INPUT;
    if (line_owner[line] != 0)
        info->flags |= GPIO_V2_LINE_FLAG_USED;
    return 0;
}

/* What the two interfaces call the same properties of a line. */
static const struct {
    uint32_t requested, told;
    uint64_t second;
} line_properties[] = {
    {GPIOHANDLE_REQUEST_INPUT, 0, GPIO_V2_LINE_FLAG_INPUT},
    {GPIOHANDLE_REQUEST_OUTPUT, GPIOLINE_FLAG_IS_OUT, GPIO_V2_LINE_FLAG_OUTPUT},
    {GPIOHANDLE_REQUEST_ACTIVE_LOW, GPIOLINE_FLAG_ACTIVE_LOW, GPIO_V2_LINE_FLAG_ACTIVE_LOW},
    {GPIOHANDLE_REQUEST_OPEN_DRAIN, GPIOLINE_FLAG_OPEN_DRAIN, GPIO_V2_LINE_FLAG_OPEN_DRAIN},
    {GPIOHANDLE_REQUEST_OPEN_SOURCE, GPIOLINE_FLAG_OPEN_SOURCE, GPIO_V2_LINE_FLAG_OPEN_SOURCE},
    {GPIOHANDLE_REQUEST_BIAS_PULL_UP, GPIOLINE_FLAG_BIAS_PULL_UP, GPIO_V2_LINE_FLAG_BIAS_PULL_UP},
    {GPIOHANDLE_REQUEST_BIAS_PULL_DOWN, GPIOLINE_FLAG_BIAS_PULL_DOWN, GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN},
    {GPIOHANDLE_REQUEST_BIAS_DISABLE, GPIOLINE_FLAG_BIAS_DISABLE, GPIO_V2_LINE_FLAG_BIAS_DISABLED},
    {0, GPIOLINE_FLAG_KERNEL, GPIO_V2_LINE_FLAG_USED},
};
#define LINE_PROPERTIES (sizeof line_properties / sizeof line_properties[0])

/* The configuration of a handle, as the second interface has it. */
static struct gpio_v2_line_config config_of(uint32_t flags, const uint8_t *values, uint32_t lines)
{
    struct gpio_v2_line_config config = {0};
    for (size_t i = 0; i < LINE_PROPERTIES; i++)
        if (flags & line_properties[i].requested)
            config.flags |= line_properties[i].second;
    config.num_attrs = 1;
    config.attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES;
    config.attrs[0].mask = ~(uint64_t)0;
    for (uint32_t i = 0; i < lines; i++)
        config.attrs[0].attr.values |= (uint64_t)(values[i] != 0) << i;
    return config;
}

static int request_handle(struct gpiohandle_request *handle)
{
    struct gpio_v2_line_request request = {.num_lines = handle->lines};
    if (handle->lines == 0 || handle->lines > GPIOHANDLES_MAX) {
        errno = EINVAL;
        return -1;
    }
    memcpy(request.offsets, handle->lineoffsets, sizeof request.offsets);
    request.config = config_of(handle->flags, handle->default_values, handle->lines);
    if (request_lines(&request) != 0)
        return -1;
    devices[request.fd]->kind = GPIO_HANDLE;
    handle->fd = request.fd;
    return 0;
}

static int old_line_info(struct gpioline_info *info)
{
    struct gpio_v2_line_info now = {.offset = info->line_offset};
    if (line_info(&now) != 0)
        return -1;
    memset(info, 0, sizeof *info);
    info->line_offset = now.offset;
    memcpy(info->name, now.name, sizeof info->name);
    for (size_t i = 0; i < LINE_PROPERTIES; i++)
        if (now.flags & line_properties[i].second)
            info->flags |= line_properties[i].told;
    return 0;
}

static int gpio_chip_ioctl(unsigned long request, void *argument)
{
    struct gpiochip_info *chip = argument;
    switch (request) {
    case GPIO_GET_CHIPINFO_IOCTL:
        memset(chip, 0, sizeof *chip);
        strcpy(chip->name, "gpiochip0");
        strcpy(chip->label, "pinctrl-bcm2711");
        chip->lines = GPIO_LINES;
        return 0;
    case GPIO_V2_GET_LINEINFO_IOCTL:
        return line_info(argument);
    case GPIO_V2_GET_LINE_IOCTL:
        return request_lines(argument);
    case GPIO_GET_LINEINFO_IOCTL:
        return old_line_info(argument);
    case GPIO_GET_LINEHANDLE_IOCTL:
        return request_handle(argument);
    default:
        errno = ENOTTY;
        return -1;
    }
}

static int gpio_request_ioctl(int fd, struct device *device, unsigned long request, void *argument)
{
    struct gpio_v2_line_values *values = argument;
    switch (request) {
    case GPIO_V2_LINE_GET_VALUES_IOCTL:
        values->bits = 0;
        for (uint32_t i = 0; i < device->lines; i++) {
            uint8_t line = device->offsets[i];
            int level = values->mask >> i & 1 ? line_get(fd, line) : 0;
            if (level < 0)
                return -1;
            if (values->mask >> i & 1 && level != !!(line_flags[line] & GPIO_V2_LINE_FLAG_ACTIVE_LOW))
                values->bits |= (uint64_t)1 << i;
        }
        return 0;
    case GPIO_V2_LINE_SET_VALUES_IOCTL:
        for (uint32_t i = 0; i < device->lines; i++) {
            uint8_t line = device->offsets[i];
            if (!(values->mask >> i & 1))
                continue;
            if (!(line_flags[line] & GPIO_V2_LINE_FLAG_OUTPUT)) {
                errno = EPERM;
                return -1;
            }
            if (line_set(fd, line, (int)(values->bits >> i & 1) != !!(line_flags[line] & GPIO_V2_LINE_FLAG_ACTIVE_LOW)) < 0)
                return -1;
        }
        return 0;
    case GPIO_V2_LINE_SET_CONFIG_IOCTL:
        return configure_lines(fd, device, argument);
    default:
        errno = ENOTTY;
        return -1;
    }
}

static int gpio_handle_ioctl(int fd, struct device *device, unsigned long request, void *argument)
{
    struct gpio_v2_line_values values = {.mask = ~(uint64_t)0};
    struct gpiohandle_data *data = argument;
    if (request == GPIOHANDLE_GET_LINE_VALUES_IOCTL) {
        if (gpio_request_ioctl(fd, device, GPIO_V2_LINE_GET_VALUES_IOCTL, &values) != 0)
            return -1;
        for (uint32_t i = 0; i < device->lines; i++)
            data->values[i] = (uint8_t)(values.bits >> i & 1);
        return 0;
    }
    if (request == GPIOHANDLE_SET_LINE_VALUES_IOCTL) {
        for (uint32_t i = 0; i < device->lines; i++)
            values.bits |= (uint64_t)(data->values[i] != 0) << i;
        return gpio_request_ioctl(fd, device, GPIO_V2_LINE_SET_VALUES_IOCTL, &values);
    }
    if (request == GPIOHANDLE_SET_CONFIG_IOCTL) {
        const struct gpiohandle_config *wanted = argument;
        struct gpio_v2_line_config config = config_of(wanted->flags, wanted->default_values, device->lines);
        return configure_lines(fd, device, &config);
    }
    errno = ENOTTY;
    return -1;
}

/* By these, libgpiod 1 and 2 make sure that a character device is a GPIO chip. */
#define GPIO_DEVICE_FILE "/sys/bus/gpio/devices/gpiochip0/dev"
#define GPIO_DEVICE_SUBSYSTEM "/sys/dev/char/254:0/subsystem"
#define GPIO_SUBSYSTEM "/sys/bus/gpio"

static int open_device_file(int flags)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d:0\n", GPIO_DEVICE_MAJOR);
    int fd = memfd_create("dev", flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
    if (fd >= 0 && (REAL(write)(fd, text, (size_t)length) != length || lseek(fd, 0, SEEK_SET) != 0)) {
        REAL(close)(fd);
        errno = EIO;
        return -1;
    }
    return fd;
}

/* Open a device of ours; -2 for a path that is not. */
static int open_ours(const char *path, int flags)
{
    int missing;
    const struct node *node = node_of(path, &missing);
    if (node != NULL)
        return add_device(node->kind, node->chip_select, flags);
    if (path != NULL && strcmp(path, GPIO_DEVICE_FILE) == 0)
        return open_device_file(flags);
    if (!missing)
        return -2;
    errno = ENOENT;
    return -1;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;
}

#define SERVE_OPEN(name)                                  \
    int name(const char *path, int flags, ...)            \
    {                                                     \
        va_list arguments;                                \
        mode_t mode;                                      \
        int fd = open_ours(path, flags);                  \
        if (fd != -2)                                     \
            return fd;                                    \
        va_start(arguments, flags);                       \
        mode = mode_of(flags, arguments);                 \
        va_end(arguments);                                \
        return REAL(name)(path, flags, mode);             \
    }

#define SERVE_OPENAT(name)                                          \
    int name(int folder, const char *path, int flags, ...)          \
    {                                                               \
        va_list arguments;                                          \
        mode_t mode;                                                \
        int fd = open_ours(path, flags);                            \
        if (fd != -2)                                               \
            return fd;                                              \
        va_start(arguments, flags);                                 \
        mode = mode_of(flags, arguments);                           \
        va_end(arguments);                                          \
        return REAL(name)(folder, path, flags, mode);               \
    }

SERVE_OPEN(open)
SERVE_OPEN(open64)
SERVE_OPENAT(openat)
SERVE_OPENAT(openat64)

/* What open becomes when a program is built with _FORTIFY_SOURCE; glibc declares neither. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

int __open_2(const char *path, int flags)
{
    int fd = open_ours(path, flags);
    return fd != -2 ? fd : REAL(__open_2)(path, flags);
}

int __open64_2(const char *path, int flags)
{
    int fd = open_ours(path, flags);
    return fd != -2 ? fd : REAL(__open64_2)(path, flags);
}

int close(int fd)
{
    struct device *device = device_of(fd);
    if (device != NULL) {
        __atomic_store_n(&devices[fd], NULL, __ATOMIC_RELEASE);
        if (device->kind == GPIO_REQUEST || device->kind == GPIO_HANDLE) {
            pthread_mutex_lock(&table);
            release_lines(fd);
            pthread_mutex_unlock(&table);
        }
        pthread_mutex_destroy(&device->busy);
        free(device);
    }
    return REAL(close)(fd);
}

int ioctl(int fd, unsigned long request, ...)
{
    struct device *device = device_of(fd);
    va_list arguments;
    void *argument;
    int result = -1;
    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (device == NULL)
        return REAL(ioctl)(fd, request, argument);
    request = (uint32_t)request; /* all that the kernel looks at: some callers extend its sign */
    pthread_mutex_lock(&device->busy);
    switch (device->kind) {
    case SPI:
        result = spi_ioctl(fd, device, request, argument);
        break;
    case I2C_BUS:
        result = i2c_ioctl(fd, device, request, argument);
        break;
    case GPIO_CHIP:
        result = gpio_chip_ioctl(request, argument);
        break;
    case GPIO_REQUEST:
        result = gpio_request_ioctl(fd, device, request, argument);
        break;
    case GPIO_HANDLE:
        result = gpio_handle_ioctl(fd, device, request, argument);
        break;
    case NOT_OURS:
        break;
    }
    pthread_mutex_unlock(&device->busy);
    return result;
}

static ssize_t half_duplex(int fd, struct device *device, const uint8_t *tx, uint8_t *rx, size_t length)
{
    ssize_t result = -1;
    pthread_mutex_lock(&device->busy);
    if (device->kind == SPI) {
        if (length > SPI_LIMIT)
            errno = EMSGSIZE;
        else
            result = spi_frame(fd, device, tx, rx, (uint32_t)length);
    } else if (device->kind == I2C_BUS && length <= I2C_LIMIT / 2) {
        struct i2c_msg message = {
            .addr = device->i2c_address, .flags = rx != NULL ? I2C_M_RD : 0, .len = (uint16_t)length,
            .buf = rx != NULL ? rx : (uint8_t *)tx,
        };
        result = i2c_transfer(fd, &message, 1) < 0 ? -1 : (ssize_t)length;
    } else {
        errno = EINVAL;
    }
    pthread_mutex_unlock(&device->busy);
    return result;
}

ssize_t read(int fd, void *buffer, size_t length)
{
    struct device *device = device_of(fd);
    return device != NULL ? half_duplex(fd, device, NULL, buffer, length) : REAL(read)(fd, buffer, length);
}

ssize_t write(int fd, const void *buffer, size_t length)
{
    struct device *device = device_of(fd);
    return device != NULL ? half_duplex(fd, device, buffer, NULL, length) : REAL(write)(fd, buffer, length);
}

static int access_ours(const char *path)
{
    int missing;
    if (node_of(path, &missing) != NULL || (path != NULL && strcmp(path, GPIO_DEVICE_FILE) == 0))
        return 0;
    if (!missing)
        return -2;
    errno = ENOENT;
    return -1;
}

char *realpath(const char *restrict path, char *restrict resolved)
{
    if (path == NULL || strcmp(path, GPIO_DEVICE_SUBSYSTEM) != 0)
        return REAL(realpath)(path, resolved);
    return resolved == NULL ? strdup(GPIO_SUBSYSTEM) : strcpy(resolved, GPIO_SUBSYSTEM);
}

/* What realpath becomes when a program is built with _FORTIFY_SOURCE. */
char *__realpath_chk(const char *path, char *resolved, size_t size);

char *__realpath_chk(const char *path, char *resolved, size_t size)
{
    if (path == NULL || strcmp(path, GPIO_DEVICE_SUBSYSTEM) != 0 || size < sizeof GPIO_SUBSYSTEM)
        return REAL(__realpath_chk)(path, resolved, size);
    return strcpy(resolved, GPIO_SUBSYSTEM);
}

int access(const char *path, int mode)
{
    int result = access_ours(path);
    return result != -2 ? result : REAL(access)(path, mode);
}

int faccessat(int folder, const char *path, int mode, int flags)
{
    int result = access_ours(path);
    return result != -2 ? result : REAL(faccessat)(folder, path, mode, flags);
}

/* struct stat and struct stat64 are filled by name, so that one macro serves both. */
#define FILL(info, node)                                         \
    do {                                                         \
        memset(info, 0, sizeof *(info));                         \
        (info)->st_mode = S_IFCHR | 0660;                        \
        (info)->st_nlink = 1;                                    \
        (info)->st_uid = geteuid();                              \
        (info)->st_gid = getegid();                              \
        (info)->st_rdev = makedev((node)->major, (node)->minor); \
    } while (0)

#define SERVE_STAT(name, type)                           \
    int name(const char *path, type *info)               \
    {                                                    \
        int missing;                                     \
        const struct node *node = node_of(path, &missing); \
        if (node != NULL) {                              \
            FILL(info, node);                            \
            return 0;                                    \
        }                                                \
        if (missing) {                                   \
            errno = ENOENT;                              \
            return -1;                                   \
        }                                                \
        return REAL(name)(path, info);                   \
    }

#define SERVE_FSTATAT(name, type)                                             \
    int name(int folder, const char *path, type *info, int flags)             \
    {                                                                         \
        int missing;                                                          \
        const struct node *node = node_of(path, &missing);                    \
        if (node != NULL) {                                                   \
            FILL(info, node);                                                 \
            return 0;                                                         \
        }                                                                     \
        if (missing) {                                                        \
            errno = ENOENT;                                                   \
            return -1;                                                        \
        }                                                                     \
        return REAL(name)(folder, path, info, flags);                         \
    }

SERVE_STAT(stat, struct stat)
SERVE_STAT(lstat, struct stat)
SERVE_STAT(stat64, struct stat64)
SERVE_STAT(lstat64, struct stat64)
SERVE_FSTATAT(fstatat, struct stat)
SERVE_FSTATAT(fstatat64, struct stat64)

/* What stat was until glibc 2.33, and still is in programs that were built before, such as Python's binary wheels. */
#define SERVE_OLD_STAT(name, now, type)                                              \
    int name(int version, const char *path, type *info);                            \
    int name(int version, const char *path, type *info)                             \
    {                                                                               \
        int missing;                                                                \
        const struct node *node = node_of(path, &missing);                          \
        int (*old)(int, const char *, type *);                                      \
        if (node != NULL) {                                                         \
            FILL(info, node);                                                       \
            return 0;                                                               \
        }                                                                           \
        if (missing) {                                                              \
            errno = ENOENT;                                                         \
            return -1;                                                              \
        }                                                                           \
        old = (__typeof__(old))real(#name);                                         \
        return old != NULL ? old(version, path, info) : REAL(now)(path, info);      \
    }

SERVE_OLD_STAT(__xstat, stat, struct stat)
SERVE_OLD_STAT(__lxstat, lstat, struct stat)
SERVE_OLD_STAT(__xstat64, stat64, struct stat64)
SERVE_OLD_STAT(__lxstat64, lstat64, struct stat64)

int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict info)
{
    int missing;
    const struct node *node = node_of(path, &missing);
    if (node != NULL) {
        memset(info, 0, sizeof *info);
        info->stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_INO;
        info->stx_mode = S_IFCHR | 0660;
        info->stx_nlink = 1;
        info->stx_uid = geteuid();
        info->stx_gid = getegid();
        info->stx_rdev_major = node->major;
        info->stx_rdev_minor = node->minor;
        return 0;
    }
    if (missing) {
        errno = ENOENT;
        return -1;
    }
    return REAL(statx)(folder, path, flags, mask, info);
}

/* Behind the last real entry of /dev come ours; real ones with our names are left out. One listing at a time. */
static DIR *listing;
static size_t listed;

DIR *opendir(const char *path)
{
    DIR *folder = REAL(opendir)(path);
    if (folder != NULL && (strcmp(path, "/dev") == 0 || strcmp(path, "/dev/") == 0)) {
        listing = folder;
        listed = 0;
    }
    return folder;
}

int closedir(DIR *folder)
{
    if (folder == listing)
        listing = NULL;
    return REAL(closedir)(folder);
}

#define SERVE_READDIR(name, type)                                                                  \
    type *name(DIR *folder)                                                                        \
    {                                                                                              \
        static type entry;                                                                         \
        char path[sizeof entry.d_name + 5];                                                        \
        int missing;                                                                               \
        for (;;) {                                                                                 \
            type *found = REAL(name)(folder);                                                      \
            if (folder != listing)                                                                 \
                return found;                                                                      \
            if (found == NULL)                                                                     \
                break;                                                                             \
            memcpy(path, "/dev/", 5);                                                              \
            strcpy(path + 5, found->d_name);                                                       \
            if (node_of(path, &missing) == NULL && !missing)                                       \
                return found;                                                                      \
        }                                                                                          \
        if (listed == NODES)                                                                       \
            return NULL;                                                                           \
        memset(&entry, 0, sizeof entry);                                                           \
        entry.d_ino = listed + 1;                                                                  \
        entry.d_type = DT_CHR;                                                                     \
        entry.d_reclen = sizeof entry;                                                             \
        strcpy(entry.d_name, nodes[listed++].path + 5);                                            \
        return &entry;                                                                             \
    }

SERVE_READDIR(readdir, struct dirent)
SERVE_READDIR(readdir64, struct dirent64)

/* Within the C library, scandir does not come by our readdir. */
#define SERVE_SCANDIR(name, next, type)                                                                \
    int name(const char *path, type ***found, int (*wanted)(const type *),                            \
             int (*order)(const type **, const type **))                                              \
    {                                                                                                  \
        type **entries = NULL, *entry;                                                                 \
        size_t count = 0;                                                                              \
        DIR *folder;                                                                                   \
        if (strcmp(path, "/dev") != 0 && strcmp(path, "/dev/") != 0)                                   \
            return REAL(name)(path, found, wanted, order);                                             \
        folder = opendir(path);                                                                        \
        if (folder == NULL)                                                                            \
            return -1;                                                                                 \
        while ((entry = next(folder)) != NULL) {                                                       \
            type **more;                                                                               \
            if (wanted != NULL && !wanted(entry))                                                      \
                continue;                                                                              \
            more = realloc(entries, (count + 1) * sizeof *entries);                                    \
            if (more != NULL)                                                                          \
                entries = more;                                                                        \
            if (more == NULL || (entries[count] = malloc(sizeof *entry)) == NULL)                      \
                break;                                                                                 \
            memcpy(entries[count], entry, offsetof(type, d_name));                                     \
            strcpy(entries[count++]->d_name, entry->d_name);                                           \
        }                                                                                              \
        closedir(folder);                                                                              \
        if (entry != NULL) {                                                                           \
            while (count > 0)                                                                          \
                free(entries[--count]);                                                                \
            free(entries);                                                                             \
            errno = ENOMEM;                                                                            \
            return -1;                                                                                 \
        }                                                                                              \
        if (order != NULL && count > 1)                                                                \
            qsort(entries, count, sizeof *entries, (int (*)(const void *, const void *))(void *)order); \
        *found = entries;                                                                              \
        return (int)count;                                                                             \
    }

SERVE_SCANDIR(scandir, readdir, struct dirent)
SERVE_SCANDIR(scandir64, readdir64, struct dirent64)
