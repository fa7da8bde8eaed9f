umask 022
unset IFS
cur=0 go=1 e= f= g= l= t0=
set --
say() { printf '\n@%s %s %s\n' "$n" "$cur" "$*"; }
t=
# Both clock readings are cut to seconds: a second less is never too old. The script is over in less than one.
age() {
  m=$(stat -c %Y "$1" 2>/dev/null) && t=${t:-$(date +%s)} && a=$((t - m - 1)) && [ "$a" -ge 0 ] || a=0
}
record() { l=; { read -r _; read -r l; } 2>/dev/null <"$1"; }
holds() {
  l=
  [ -f "$1" ] && [ ! -L "$1" ] && record "$1"
  case $l in *"\"token\":\"$2\""*) return 0;; esac
  return 1
}
look() {
  l=
  if [ -L "$1" ]; then say link
  elif [ -d "$1" ]; then say directory
  elif [ -f "$1" ]; then
    if m=$(stat -c %Y "$1" 2>/dev/null); then
      age "$1"; say file "$a"; dd if="$1" bs=4096 count=1 2>/dev/null
    else say absent; fi
  elif [ -e "$1" ]; then say other
  else
    d=${1%/*}
    while [ -n "$d" ] && [ ! -e "$d" ] && [ ! -L "$d" ]; do d=${d%/*}; done
    if [ ! -d "${d:-/}" ]; then say absent
    elif [ -x "${d:-/}" ]; then say absent
    else say failed "Permission denied in ${d:-/}"; fi
  fi
}
put() {
  [ ! -e "$1" ] && [ ! -L "$1" ] && { printf '%s\n%s\n' "$2" "$3" >"$1"; } 2>/dev/null
  record "$1" && [ "$l" = "$3" ] && return 0
  e=$( { printf '%s\n%s\n' "$2" "$3" >"$1"; } 2>&1 )
  rm -f "$1"; e=${e:-"could not write $1"}; return 1
}
link() {
  if [ -e "$2" ] || [ -L "$2" ]; then return 1; fi
  ln "$1" "$2" 2>/dev/null && return 0
  if [ -e "$2" ] || [ -L "$2" ]; then return 1; fi
  ( set -C; : >"$2" ) 2>/dev/null || return 1
  cat "$1" >"$2" 2>/dev/null || { rm -f "$2"; return 1; }
}
# Who makes $b.claim-$1-N may replace or remove the lock with the token $1. N+1 may be made when N is older than the lease, $2.
claim() {
  t0=${t0:-$(date +%s)}
  i=0
  while [ "$i" -lt 8 ]; do
    k=$b.claim-$1-$i
    set -C; { true >"$k"; } 2>/dev/null; s=$?; set +C
    [ "$s" -ne 0 ] || return 0
    [ -f "$k" ] || return 1
    age "$k"; [ "$a" -ge "$2" ] || return 1
    i=$((i + 1))
  done
  return 1
}
# A claim may be relied on for half a lease.
young() { t=$(date +%s); [ "$(((t - t0) * 2))" -lt "$1" ]; }
# The lock is gone: so may its claims. Until then they stay, or a next one could make the same again.
over() {
  while [ "$i" -gt 0 ]; do i=$((i - 1)); rm -f "$b.claim-$1-$i"; done
  g=$k
}
litter() {
  for f in "$b".*; do
    [ -f "$f" ] && [ ! -L "$f" ] && [ "$f" != "$b.broken" ] || continue
    age "$f"; if [ "$a" -ge 86400 ]; then rm -f "$f"; fi
  done
}
lost() {
  say lost; look "$1"
  b=${1%/*}/.${1##*/}
  [ -f "$b.broken" ] || return 0
  note=
  while read -r l; do
    case $l in *"\"token\":\"$2\""*) note=$l;; esac
  done <"$b.broken"
  [ -z "$note" ] || say broken "$note"
}
take() {
  [ "$go" = 1 ] || return 0
  go=0
  b=${1%/*}/.${1##*/}
  if [ -n "$5" ] && holds "$1" "$5" && age "$1" && [ "$a" -ge "$6" ]; then
    put "$b.$2" "$3" "$4" || { say failed "$e"; return; }
    if claim "$5" "$6"; then
      if ! holds "$1" "$5"; then over "$5"
      elif age "$1" && [ "$a" -ge "$6" ] && young "$6" && mv -f "$b.$2" "$1" 2>/dev/null; then over "$5"; litter; fi
    fi
    rm -f "$b.$2"
  elif [ ! -e "$1" ] && [ ! -L "$1" ]; then
    d=${1%/*}
    [ -d "${d:-/}" ] || e=$(mkdir -p "$d" 2>&1) || { say failed "$e"; return; }
    put "$b.$2" "$3" "$4" || { say failed "$e"; return; }
    # The temporary files of all locks are removed in one go, at the end.
    link "$b.$2" "$1"
  fi
  if holds "$1" "$2"; then say taken; go=1; else look "$1"; fi
}
refresh() {
  if ! holds "$1" "$2"; then lost "$1" "$2"; return; fi
  age "$1"
  if [ "$a" -ge "$3" ]; then say expired; return; fi
  touch -c "$1" 2>/dev/null || e=$(touch -c "$1" 2>&1) || { say failed "$e"; return; }
  if holds "$1" "$2"; then say refreshed; else lost "$1" "$2"; fi
}
remove() {
  if ! holds "$1" "$2"; then lost "$1" "$2"; return; fi
  b=${1%/*}/.${1##*/}
  if ! claim "$2" "$3"; then lost "$1" "$2"; return; fi
  if ! holds "$1" "$2"; then over "$2"; lost "$1" "$2"; return; fi
  if ! young "$3"; then lost "$1" "$2"; return; fi
  if rm -f "$1" "$b.$2" 2>/dev/null || e=$(rm -f "$1" 2>&1); then over "$2"; say removed; else say failed "$e"; fi
}
crack() {
  b=${1%/*}/.${1##*/}
  if [ -n "$2" ]; then
    if ! claim "$2" "$3"; then look "$1"; return; fi
    if ! holds "$1" "$2"; then over "$2"; look "$1"; return; fi
    e=$( { printf '%s\n' "$4" >>"$b.broken"; } 2>&1 ) || { say failed "$e"; return; }
    if ! young "$3"; then look "$1"; return; fi
    if e=$(rm -f "$1" 2>&1); then over "$2"; say removed; else say failed "$e"; fi
  else
    if [ ! -f "$1" ] || [ -L "$1" ]; then look "$1"; return; fi
    record "$1"; age "$1"
    case $l in *'"token":"'*) look "$1"; return;; esac
    # Ages in whole seconds, cut twice.
    if [ "$((a + 3))" -lt "$3" ]; then look "$1"; return; fi
    e=$( { printf '%s\n' "$4" >>"$b.broken"; } 2>&1 ) && e=$(rm -f "$1" 2>&1) && say removed || say failed "$e"
  fi
}
