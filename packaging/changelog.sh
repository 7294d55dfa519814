#!/bin/bash
# Prints the changelog of the Debian package (deb-changelog(5)), made from the releases in CHANGELOG.md.
set -euo pipefail
cd "$(dirname "$0")/.."

maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
date=
finish() {
    if [[ -n $date ]]; then
        printf '\n -- %s  %s\n' "$maintainer" "$(LC_ALL=C date --utc --rfc-email --date "$date")"
        date=
    fi
}
# An item may span several lines. It is wrapped again to the width that lintian accepts.
item=
print_item() {
    if [[ -n $item ]]; then
        fold --spaces --width=74 <<< "${item//\`/}" | sed -e '1s/^/  * /' -e '2,$s/^/    /' -e 's/ *$//'
        item=
    fi
}
while IFS= read -r line; do
    case $line in
        '## ['[0-9]*)
            print_item
            [[ -z $date ]] || { finish; echo; }
            [[ $line =~ ^'## ['([0-9.]+)'] - '([0-9-]+)$ ]]
            date=${BASH_REMATCH[2]}
            printf 'iotmonitor (%s) unstable; urgency=medium\n\n' "${BASH_REMATCH[1]}"
            ;;
        '## '*) print_item; finish ;;
        '- '*) print_item; [[ -z $date ]] || item=${line#- } ;;
        '  '*) [[ -z $item ]] || item+=" ${line#  }" ;;
        *) print_item ;;
    esac
done < CHANGELOG.md
print_item
finish
