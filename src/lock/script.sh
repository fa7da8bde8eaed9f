umask 022
unset IFS
cur=0 go=1 c= e= f= l=
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
claim() {
  k=$4 c=
  for _ in 1 2 3 4 5 6 7 8; do
    f=$b.claim-$k
    if link "$2" "$f"; then c="$c $k"; return 0; fi
    [ -f "$f" ] && record "$f" || return 1
    age "$f"; [ "$a" -ge "$5" ] || return 1
    c="$c $k"
    k=${l#*\"token\":\"}; k=${k%%\"*}
    case $k in ''|*[!0-9a-z-]*) return 1;; esac
  done
  return 1
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
unclaim() { for k in $c; do rm -f "$b.claim-$k"; done; c=; }
take() {
  [ "$go" = 1 ] || return 0
  go=0
  b=${1%/*}/.${1##*/}
  if [ -n "$5" ] && holds "$1" "$5"; then
    put "$b.$2" "$3" "$4" || { say failed "$e"; return; }
    if claim "$1" "$b.$2" x "$5" "$6"; then
      if holds "$1" "$5" && age "$1" && [ "$a" -ge "$6" ] && mv -f "$b.$2" "$1" 2>/dev/null; then
        # Half a lease since the claim: the lock may have been another's by now. Then it is nobody's, for one lease.
        t=; age "$f"
        if [ "$((a * 2))" -ge "$6" ] && put "$b.$2-late" "$3" "$7"; then mv -f "$b.$2-late" "$1"; fi
        litter
      fi
      unclaim
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
  # The age first: were it asked for after the look, it could be that of another's lock, which is young.
  age "$1"
  if ! holds "$1" "$2"; then lost "$1" "$2"; return; fi
  c=
  b=${1%/*}/.${1##*/}
  if [ "$((a * 2))" -ge "$3" ]; then
    put "$b.$2-release" "$4" "$5" && claim "$1" "$b.$2-release" x "$2" "$3"
    s=$?
    rm -f "$b.$2-release"
    if [ "$s" -ne 0 ] || ! holds "$1" "$2"; then unclaim; lost "$1" "$2"; return; fi
  fi
  if rm -f "$1" "$b.$2" 2>/dev/null || e=$(rm -f "$1" 2>&1); then say removed; else say failed "$e"; fi
  [ -z "$c" ] || unclaim
}
crack() {
  c=
  b=${1%/*}/.${1##*/}
  if [ -n "$2" ]; then
    put "$b.$2-release" "$4" "$5" && claim "$1" "$b.$2-release" x "$2" "$3"
    s=$?
    rm -f "$b.$2-release"
    if [ "$s" -ne 0 ] || ! holds "$1" "$2"; then unclaim; look "$1"; return; fi
  else
    if [ ! -f "$1" ] || [ -L "$1" ]; then look "$1"; return; fi
    record "$1"; age "$1"
    case $l in *'"token":"'*) look "$1"; return;; esac
    # Ages in whole seconds, cut twice.
    if [ "$((a + 3))" -lt "$3" ]; then look "$1"; return; fi
  fi
  if e=$( { printf '%s\n' "$6" >>"$b.broken"; } 2>&1 ) && e=$(rm -f "$1" 2>&1); then say removed; else say failed "$e"; fi
  [ -z "$c" ] || unclaim
}
