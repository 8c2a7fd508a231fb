"""Seeds of random streams: fixed by name, and apart from one another."""

import hashlib

from kellet.models.seeds import derived_seed


def test_a_stream_s_seed_is_the_beginning_of_its_hash():
    assert derived_seed(0, "candidate") == int(hashlib.sha256(b'[0, "candidate"]').hexdigest()[:8], 16) == 1589130822
    assert derived_seed(5, "member", 1) == int(hashlib.sha256(b'[5, "member", 1]').hexdigest()[:8], 16) == 2627865325


def test_each_system_and_each_run_has_its_own_stream():
    seeds = {derived_seed(seed, system) for seed in (0, 1) for system in ("candidate", "reference", "champion")}
    assert len(seeds) == 6
