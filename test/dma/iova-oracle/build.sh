#!/usr/bin/env bash
# Builds the kernel's own IOVA allocator as a program, outside the repository: fetches Debian's package of the kernel source,
# takes four files out of it, compiles them with driver.c and shim.h. Prints the path of the program and the package's version.
# Usage: build.sh [6.1|6.12] [lock|nolock]. Needs apt-get (Debian 12), dpkg-deb, tar, xz, cc. Some 140 MB once; kept in
# ${IOMMUKIT_ORACLE:-$TMPDIR/iommukit-iova-oracle-UID}.
set -euo pipefail
kernel=${1:-6.1} locks=${2:-lock}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${IOMMUKIT_ORACLE:-${TMPDIR:-/tmp}/iommukit-iova-oracle-$(id -u)}
tree=$work/linux-source-$kernel
mkdir -p "$work"

if [ ! -e "$tree/version" ]; then
  package=linux-source-$kernel
  fetched=$(mktemp -d "$work/fetch.XXXXXX")
  trap 'rm -rf "$fetched"' EXIT
  (cd "$fetched" && apt-get -qq download "$package") >&2
  dpkg-deb --fsys-tarfile "$fetched/$package"_*.deb | tar -x --to-stdout "./usr/src/$package.tar.xz" |
    tar -xJ -C "$fetched" "$package"/{drivers/iommu/{iova,dma-iommu}.c,lib/rbtree.c,include/linux/{iova,rbtree,rbtree_types,rbtree_augmented}.h}
  dpkg-deb --field "$fetched/$package"_*.deb Version >"$fetched/$package/version"
  rm -rf "$tree"
  mv "$fetched/$package" "$tree"
fi

# Headers that shim.h stands for.
stubs=$work/stubs/linux
mkdir -p "$stubs"
for name in bitops compiler container_of cpu dma-mapping export kernel kmemleak module rcupdate slab smp stddef types workqueue; do
  : >"$stubs/$name.h"
done
awk '/^static dma_addr_t iommu_dma_alloc_iova\(/ { on = 1 } on { print } /^}/ { on = 0 }' \
  "$tree/drivers/iommu/dma-iommu.c" >"$tree/dma-alloc-iova.inc"

flags=()
[ "$locks" = nolock ] && flags+=(-DNOLOCK)
grep -q IOVA_DEPOT_DELAY "$tree/drivers/iommu/iova.c" && flags+=(-DDEPOT_LIST)
program=$work/driver-$kernel-$locks
${CC:-cc} -O2 -w -std=gnu11 "${flags[@]}" -include "$here/shim.h" -I "$work/stubs" -I "$tree/include" -I "$tree/drivers/iommu" \
  -I "$tree" -o "$program.new" "$here/driver.c" "$tree/lib/rbtree.c" -lm
mv "$program.new" "$program"
printf '%s %s\n' "$program" "$(cat "$tree/version")"
