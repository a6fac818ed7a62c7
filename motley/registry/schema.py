"""The registry's tables. Their names begin with `registry_`, as other stores share the file."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS registry_devices (
    device TEXT PRIMARY KEY, device_class TEXT NOT NULL, online INTEGER NOT NULL,
    profiled_s REAL NOT NULL, seen_s REAL NOT NULL,
    cpu_micros INTEGER NOT NULL, memory_bytes INTEGER NOT NULL, accelerators INTEGER NOT NULL,
    accelerator_memory_bytes INTEGER NOT NULL, disk_bytes INTEGER, bits_per_s INTEGER,
    reservations INTEGER NOT NULL DEFAULT 0 CHECK (reservations >= 0),
    reserved_cpu_micros INTEGER NOT NULL DEFAULT 0 CHECK (reserved_cpu_micros >= 0),
    reserved_memory_bytes INTEGER NOT NULL DEFAULT 0 CHECK (reserved_memory_bytes >= 0),
    reserved_accelerators INTEGER NOT NULL DEFAULT 0 CHECK (reserved_accelerators >= 0),
    reserved_disk_bytes INTEGER NOT NULL DEFAULT 0 CHECK (reserved_disk_bytes >= 0),
    reserved_bits_per_s INTEGER NOT NULL DEFAULT 0 CHECK (reserved_bits_per_s >= 0),
    busy_micros INTEGER NOT NULL DEFAULT 0, busy_until_s REAL NOT NULL DEFAULT 0,
    gflops REAL NOT NULL, speed_samples INTEGER NOT NULL DEFAULT 0, speed_reference REAL NOT NULL DEFAULT 0,
    speed_recent REAL NOT NULL DEFAULT 0, departs INTEGER NOT NULL DEFAULT 0,
    successes REAL NOT NULL DEFAULT 0, failures REAL NOT NULL DEFAULT 0,
    battery_level REAL NOT NULL, charging INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS registry_busy ON registry_devices (busy_until_s) WHERE busy_micros > 0;
CREATE TABLE IF NOT EXISTS registry_reservations (
    reservation_id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, device_class TEXT NOT NULL,
    task TEXT NOT NULL, cpu_micros INTEGER NOT NULL, memory_bytes INTEGER NOT NULL, accelerators INTEGER NOT NULL,
    disk_bytes INTEGER NOT NULL, bits_per_s INTEGER NOT NULL, accelerator_memory_bytes INTEGER NOT NULL,
    granted_s REAL NOT NULL, expires_s REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS registry_leases ON registry_reservations (expires_s);
CREATE INDEX IF NOT EXISTS registry_tasks ON registry_reservations (task, device);
CREATE TABLE IF NOT EXISTS registry_classes (
    device_class TEXT PRIMARY KEY, as_of_s REAL NOT NULL, used_core_s REAL NOT NULL, core_s REAL NOT NULL,
    devices INTEGER NOT NULL, cpu_micros INTEGER NOT NULL, used_micros INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS registry_usage (
    device_class TEXT NOT NULL, at_s REAL NOT NULL, used_core_s REAL NOT NULL, core_s REAL NOT NULL,
    PRIMARY KEY (device_class, at_s)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS registry_holdings (
    device_class TEXT NOT NULL, task TEXT NOT NULL, devices INTEGER NOT NULL, cpu_micros INTEGER NOT NULL,
    PRIMARY KEY (device_class, task)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS registry_refusals (
    device_class TEXT NOT NULL, what TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (device_class, what)
) STRICT, WITHOUT ROWID;
"""
"""registry_devices: what is reserved of each is kept beside it, so that a reservation reads one row.
registry_classes: the tally of each class, registry_usage: its integrals at the bounds of buckets.
registry_holdings: what each task holds of each class, for the quotas."""
