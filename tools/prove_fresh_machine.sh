#!/usr/bin/env bash
# Proves that tools/packages.txt is complete: clones the last commit into a minimal Debian 12 that has nothing but
# what debootstrap puts there, and runs a command in it. Needs root, debootstrap and git.
#
#   tools/prove_fresh_machine.sh                              ./dev test
#   tools/prove_fresh_machine.sh --command './dev run Hello'  another command, in the clone's root
#   tools/prove_fresh_machine.sh --base DIR                   where the untouched Debian is kept ($TMPDIR/fresh-base)
#
# Mirrors, proxies and keys are the host's own: its apt configuration is copied, npm's registry and certificates are
# passed on. The base is made once; every run works on an overlay of it that is gone afterwards, and all mounts live in
# a namespace that ends with the script.
set -euo pipefail

command='./dev test'
base=${TMPDIR:-/tmp}/fresh-base
root=$(git -C "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" rev-parse --show-toplevel)

say() { printf 'prove: %s\n' "$*" >&2; }

make_base() {
  local mirror
  mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | awk '$1 == "bookworm" { print $2; exit }')
  if [[ -z $mirror ]]; then
    say "this machine's apt configuration has no mirror of Debian 12"
    return 1
  fi
  say "making a minimal Debian 12 in $base"
  rm -rf "$base.partial"
  debootstrap --variant=minbase bookworm "$base.partial" "$mirror" >"$base.log" 2>&1 || { cat "$base.log"; return 1; }
  rm -rf "$base.partial/etc/apt"
  cp -aL /etc/apt "$base.partial/etc/apt"
  mv "$base.partial" "$base"
}

# Runs in its own mount namespace.
run_inside() {
  local work=$1
  mkdir -p "$work"/{upper,overlay,machine}
  local machine=$work/machine
  mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/overlay" "$machine"
  mount -t proc proc "$machine/proc"
  mount --rbind /dev "$machine/dev"
  cp -L /etc/resolv.conf /etc/hosts "$machine/etc/"
  local npm=() certificates
  if command -v npm >/dev/null; then
    npm=("npm_config_registry=$(npm config get registry 2>/dev/null)")
    certificates=$(npm config get cafile 2>/dev/null)
    if [[ -f $certificates ]]; then
      cp -L "$certificates" "$machine/etc/npm-certificates.pem"
      npm+=(npm_config_cafile=/etc/npm-certificates.pem)
    fi
  fi
  git clone --quiet --no-hardlinks "$root" "$machine/opt/krait"
  env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "${npm[@]}" chroot "$machine" bash -c "cd /opt/krait && $command" </dev/null
}

main() {
  while (($# > 0)); do
    case $1 in
      --command) command=$2; shift 2 ;;
      --base) base=$2; shift 2 ;;
      --inside) base=$2 command=$3; run_inside "$4"; return ;;
      *) say "unknown argument: $1"; return 2 ;;
    esac
  done
  if [[ ! -d $base ]]; then make_base; fi
  local work status=0 start=$SECONDS
  work=$(mktemp -d "$base.run.XXXXXX")
  say "running in a copy of $base: $command"
  unshare --mount --pid --fork "${BASH_SOURCE[0]}" --inside "$base" "$command" "$work" || status=$?
  rm -rf "$work"
  say "exit $status after $((SECONDS - start)) s: $command"
  return "$status"
}

main "$@"
