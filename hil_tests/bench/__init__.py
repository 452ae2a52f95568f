# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Benches: what the tests are run on. `roles` says what a bench may have, `opening` how one is opened by its name.

A new kind of bench is a module with a context manager

    @contextmanager
    def bench(run: Run) -> Iterator[Bench]: ...

that gives a `Bench` with those roles that it has, and ends what it has started. Its name and module stand in
`opening.KNOWN`. Steps of the log, skipping by missing role, states and evidence of failures follow from the roles: a
role with a method `evidence(folder)` is asked for its attachments when a test fails (`roles.Witness`).
"""
