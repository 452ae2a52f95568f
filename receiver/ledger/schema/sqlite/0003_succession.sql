-- SPDX-FileCopyrightText: 2026 civigate contributors
-- SPDX-License-Identifier: EUPL-1.2

-- How a gateway changes its key: both are accepted until the first batch signed with the new one is committed; from then
-- on the old one is replaced, and good only for what the chain says was sealed before.
ALTER TABLE gateway_key ADD COLUMN follows BLOB;        -- kid of the key before it, NULL for a first one
ALTER TABLE gateway_key ADD COLUMN replaced_us INTEGER; -- NULL while no successor has signed
