# Managed by Salt: changes made here are lost.
umask 027
# Read-only: a second reading must not fail on it.
[ "${TMOUT-}" = 900 ] ||
declare -xr TMOUT=900
