# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""A Wi-Fi network in the machine: two radios of the kernel's mac80211_hwsim, and an access point on the way out.

One radio stays with the system. The other goes with the cable into a network namespace, where hostapd bridges them:
from then on the only way to the platform is over the air, and addresses come from whoever gives them on the cable.
"""

from __future__ import annotations

from hil_tests.vm.shell import Shell

_SETTINGS = "/run/bench-hostapd.conf"
_BUILD = f"""set -e
timeout 120 sh -c 'until ls -d /sys/class/net/e*; do sleep 0.2; done'
modprobe mac80211_hwsim radios=2
udevadm settle --timeout=120
systemctl stop systemd-networkd.socket systemd-networkd.service
cable=$(ls /sys/class/net | grep '^e' | head -n 1)
ip netns add beyond
iw phy "$(cat /sys/class/net/wlan1/phy80211/name)" set netns name beyond
ip link set "$cable" netns beyond
ip -n beyond link add way type bridge
ip -n beyond link set "$cable" master way
for one in lo "$cable" way; do ip -n beyond link set "$one" up; done
ip netns exec beyond hostapd -B -f /run/bench-hostapd.log {_SETTINGS}
systemctl unmask --quiet wpa_supplicant.service NetworkManager.service
systemctl start NetworkManager.service
"""


def build(shell: Shell, ssid: bytes, password: str) -> None:
    """Put the access point between the system and its network, and start NetworkManager, which knows neither.

    Args:
        shell: of a machine that runs.
        ssid: 1 to 32 bytes.
        password: 8 to 63 printable characters of ASCII, for WPA2 [IEEE 802.11: RSN, PSK].

    Raises:
        ShellError: a step has failed.
    """
    settings = (
        f"interface=wlan1\nbridge=way\ndriver=nl80211\nhw_mode=g\nchannel=1\nssid2={ssid.hex()}\n"
        f"wpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase={password}\n"
    )
    shell.put(_SETTINGS, settings, 0o600)
    shell.check(f"( {_BUILD} )")
