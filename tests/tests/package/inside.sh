#!/bin/bash
# Runs in a fresh Debian, as its root user: installs the package, looks at it, upgrades, removes and purges it.
# Prints `ok NAME` or `not ok NAME: WHY` for each expectation.
#
#   inside.sh FIRST.deb SECOND.deb
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive MANPAGER=cat MANWIDTH=100
first=$1 second=$2
units=/usr/lib/systemd/system

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: ${*:2}"; }
# holds NAME COMMAND..: the command ends with 0
holds() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$said"; fi
}
# silent NAME COMMAND..: it also says nothing
silent() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1) && [ -z "$said" ]; then ok "$name"; else not_ok "$name" "$said"; fi
}

# What stays of any package: dpkg's and apt's own books, their logs, caches, and the users with the files' older selves.
everything() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root -o -path /var/cache \
        -o -path /var/log -o -path /var/lib/dpkg -o -path '/etc/passwd*' -o -path '/etc/group*' -o -path '/etc/shadow*' \
        -o -path '/etc/gshadow*' -o -path '/etc/subuid*' -o -path '/etc/subgid*' -o -path '/etc/.pwd.lock' \) -prune \
        -o -print | sort
}

users() { awk '$1 == "u" { print $2 }' /usr/lib/sysusers.d/sekisho.conf; }
have_users() { local user; for user in $(users); do getent passwd "$user" || return; done; }
ids() { getent passwd | grep '^sekisho-'; }
none_enabled() { ! compgen -G '/etc/systemd/system/*.wants/sekisho-*'; }
no_setid() { [ -z "$(dpkg -L sekisho | xargs -d '\n' -I{} find {} -maxdepth 0 -type f -perm /6000)" ]; }
own_directory() { [ "$(stat -c '%a %U:%G' /etc/sekisho)" = '750 root:sekisho-admin' ]; }
linked() { local found; found=$(ldd /usr/bin/sekishod /usr/bin/sekisho); ! grep 'not found' <<<"$found"; }
closed_loads() { unshare --net sh -c 'nft -f /usr/share/sekisho/closed.nft && nft list table inet sekisho' | grep -q 'hook output'; }
closed_once() { ! unshare --net sh -c 'nft -f /usr/share/sekisho/closed.nft && nft -f /usr/share/sekisho/closed.nft'; }
explained() { [ -s /usr/share/doc/sekisho/copyright ] && zcat /usr/share/doc/sekisho/changelog.gz | grep -q '^sekisho ('; }
dependencies_listed() { grep -qE '^serde v[0-9.]+ ' /usr/share/doc/sekisho/rust-dependencies.txt; }
no_paths() { ! grep -E ' \(/|//' /usr/share/doc/sekisho/rust-dependencies.txt; }

pages() {
    local page
    for page in $(dpkg -L sekisho | grep '/man/.*\.gz$'); do
        man --warnings --encoding=UTF-8 --local-file "$page" 2>&1 >/dev/null || return
        man --local-file "$page" | grep -q . || { echo "$page is empty"; return 1; }
    done
}

# Loaded as each shell loads them, and asked for a subcommand.
bash_completes() {
    bash --norc -ic 'source /usr/share/bash-completion/bash_completion; _completion_loader sekisho
        COMP_WORDS=(sekisho app); COMP_CWORD=1; _sekisho sekisho app sekisho; [ "${COMPREPLY[*]}" = apply ]' 2>&1
}
zsh_completes() {
    zsh -fc 'fpath=(/usr/share/zsh/vendor-completions $fpath); autoload -Uz compinit; compinit -u -d /tmp/zcompdump
        [ "$_comps[sekisho]" = _sekisho ] && autoload -Uz +X _sekisho && zsh -n /usr/share/zsh/vendor-completions/_sekisho'
}
fish_completes() { HOME=/tmp fish -c 'complete -C "sekisho app"' | grep -q '^apply'; }

# Reads `UNIT TENTHS` lines: the exposure that `systemd-analyze security` may see (0 best, 100 worst).
exposed() {
    local name said
    while read -r name tenths; do
        [ -e "$units/$name" ] || { [ "$tenths" = "${tenths%!}" ] && continue; not_ok "exposure $name" "no such unit"; continue; }
        said=$(systemd-analyze security --offline=true --threshold="${tenths%!}" "$units/$name" 2>&1) &&
            ok "exposure $name" || not_ok "exposure $name" "$(tail -n 1 <<<"$said")"
    done
}

everything >/tmp/before
holds install dpkg -i "$first"
holds users have_users
silent nothing-enabled none_enabled
holds no-setuid no_setid
holds directory own_directory
holds libraries linked
holds example sekisho policy check /usr/share/doc/sekisho/examples/clinic.toml
silent verify systemd-analyze verify "$units"/sekisho-*
silent pages pages
holds bash bash_completes
holds zsh zsh_completes
holds fish fish_completes
holds closed-loads closed_loads
holds closed-once closed_once
holds explained explained
holds dependencies dependencies_listed
holds no-paths no_paths
# `!` stands behind those that must exist.
exposed <<'LIMITS'
sekisho-core.service 23!
sekisho-record.service 15!
sekisho-edge.service 15!
sekisho-files.service 15!
sekisho-inspect@.service 5!
sekisho-watch.service 15!
sekisho-console.service 15!
sekisho-closed.service 20!
sekisho-time.service 10!
sekisho-time-wait.service 10!
sekisho-names.service 20!
sekisho-leases.service 23!
sekisho-wan.service 35!
sekisho-chrony.service 35!
LIMITS

ids >/tmp/ids
# What the roles would have made.
for directory in $(sed -n 's/^StateDirectory=\(sekisho.*\)/\1/p' "$units"/sekisho-*); do
    mkdir -p "/var/lib/$directory" && echo entry >"/var/lib/$directory/journal"
done
echo policy >/etc/sekisho/clinic.toml
holds upgrade dpkg -i "$second"
holds same-users diff /tmp/ids <(ids)
silent still-nothing-enabled none_enabled
systemctl --quiet enable sekisho-core.service
holds remove dpkg -r sekisho
holds log-kept grep -q entry /var/lib/sekisho-record/journal
holds policy-kept grep -q policy /etc/sekisho/clinic.toml
silent removed-is-off none_enabled
holds purge dpkg -P sekisho
everything >/tmp/after
silent nothing-left diff /tmp/before /tmp/after
