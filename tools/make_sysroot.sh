#!/usr/bin/env bash
# Unpacks Debian packages of another architecture, with all that they depend on, into a folder to compile against and
# to run under qemu-user. Nothing is installed on this machine, no architecture is added to it and nobody need be root:
# apt works on a state of its own, with this machine's mirrors, proxies and keys. (Debian's way of installing both
# architectures side by side would not do: libsentencepiece-dev cannot stand beside itself, and every library shared by
# both would have to be upgraded to the same version.)
#
#   tools/make_sysroot.sh arm64 DIR PACKAGE…
#
# DIR appears when it is complete. Where it is there already, nothing happens.
set -euo pipefail

say() { printf 'make_sysroot: %s\n' "$*" >&2; }

# Packages name places from the root of the system they are meant for.
make_links_relative() {
  local root=$1 link target
  while IFS= read -r -d '' link; do
    target=$(readlink "$link")
    ln -sfnr "$root$target" "$link"
  done < <(find "$root" -lname '/*' -print0)
}

main() {
  (($# >= 3)) || { say 'usage: tools/make_sysroot.sh ARCHITECTURE DIR PACKAGE…'; return 2; }
  local architecture=$1 directory=$2 work
  shift 2
  if [[ -d $directory ]]; then return; fi
  mkdir -p "$(dirname "$directory")"
  work=$(mktemp -d "$directory.XXXXXX")
  # The path stands in the trap's text: `work` is gone when it runs.
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT

  mkdir -p "$work"/apt/{lists,archives}/partial "$work/root"
  : >"$work/apt/status"
  cat >"$work/apt/apt.conf" <<CONF
APT::Architecture "$architecture";
#clear APT::Architectures;
APT::Architectures { "$architecture"; };
APT::Sandbox::User "";
Debug::NoLocking "true";
Dir::State "$work/apt";
Dir::State::Lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt";
Dir::Cache::archives "$work/apt/archives";
CONF
  # -c is read after the machine's own settings, so these win.
  local -a apt=(apt-get -c "$work/apt/apt.conf")
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends --download-only "$@"
  local package
  for package in "$work"/apt/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done
  make_links_relative "$work/root"
  # Somebody else may have been faster.
  mv -T "$work/root" "$directory" || [[ -d $directory ]]
}

main "$@"
