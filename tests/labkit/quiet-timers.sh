#!/bin/sh
# A systemd generator for hosts of tests: timers are there, enabled and active, and do not go off by the calendar, nor to
# make up for what they missed. A test that looks at what a run has done must not see what the clock did meanwhile. The
# guard of commit-confirm counts from the moment it is armed, and does.
directory=$1
set --
for timer in /etc/systemd/system/*.timer /run/systemd/system/*.timer /usr/lib/systemd/system/*.timer; do
    name=${timer##*/}
    case $name in
        '*.timer' | mailhost-guard.timer) continue ;;
    esac
    set -- "$@" "$directory/$name.d"
done
# One process for all: generators run at each reload, and a host is reloaded often while packages are installed.
mkdir -p "$@"
for quiet; do
    # The empty value takes back all that is in the unit, also times since boot (systemd.timer(5)).
    printf '[Timer]\nOnCalendar=\nOnCalendar=2199-01-01\nPersistent=false\n' >"$quiet/quiet.conf"
done
