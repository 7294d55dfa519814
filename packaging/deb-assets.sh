# shellcheck shell=bash
# Writes into target/manual what a package contains besides the program, and sets `cargo_deb` to the
# path of cargo-deb. A script that packs sources this file.

# Until the script that sources this file has packed them, no other one writes there.
mkdir -p target
exec 8> target/manual.lock
flock 8

# These flags are only for the build of the program.
unset CARGO_ENCODED_RUSTFLAGS
cargo_deb=$(packaging/tool.sh cargo-deb 3.8.0)
packaging/manual.sh
packaging/generate.sh licences target/manual/licences-of-others.txt
packaging/generate.sh licences target/manual/recorder/licences-of-others.txt recorder/Cargo.toml
gzip --best --no-name target/manual/licences-of-others.txt target/manual/recorder/licences-of-others.txt
packaging/changelog.sh > target/manual/changelog
sed 's/^iotmonitor (/iotmonitor-recorder (/' target/manual/changelog > target/manual/changelog-recorder
# The files in the package have the date of the version, whenever the package is built.
SOURCE_DATE_EPOCH=$(date --date "$(sed -n '/^ -- /{s/.*>  //p;q}' target/manual/changelog)" +%s)
export cargo_deb SOURCE_DATE_EPOCH
