/*
 * Runs the kernel's own IOVA allocator on a stream of operations. Own code around three files of the kernel that build.sh
 * fetched: iova.c, rbtree.c and the text of iommu_dma_alloc_iova.
 *
 *   driver compare < OPERATIONS > RESULTS   doubles: 4 per operation (kind, cpu, a, b) in, 5 out (result and search state)
 *   driver bench SLOTS < OPERATIONS          int32: 4 per operation (kind, slot, pages, cpu); prints ns per operation
 */
#include <math.h>
#include <stdio.h>
#include <time.h>
#include "iova.c"

unsigned long nr_warnings;
unsigned nr_cpus = 1, current_cpu;
bool online[MAX_CPUS];

static bool iommu_dma_forcedac __attribute__((unused));
enum { IOMMU_DMA_IOVA_COOKIE, IOMMU_DMA_MSI_COOKIE };
struct iommu_dma_cookie { int type; struct iova_domain iovad; u64 msi_iova; };
#include "dma-alloc-iova.inc"

#define MAX_DEVICES 16
static struct iommu_dma_cookie cookie;
static struct iova_domain *const iovad = &cookie.iovad;
static struct device devices[MAX_DEVICES];
static struct dev_iommu dev_iommus[MAX_DEVICES];
static u64 dma_masks[MAX_DEVICES];
static struct iommu_domain domains[MAX_DEVICES];
static bool forcedac[MAX_DEVICES];
static bool is_live;

static u64 whole(double d) { return d >= 18446744073709551616.0 ? ~0ull : (u64)d; }

static void start(unsigned cpus, u64 start_pfn, u64 granule) {
  if (is_live) put_iova_domain(iovad);
  is_live = true;
  memset(&cookie, 0, sizeof(cookie));
  nr_cpus = cpus;
  for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) online[cpu] = cpu < cpus;
  init_iova_domain(iovad, granule, start_pfn);
  if (iova_domain_init_rcaches(iovad) != 0) abort();
}

static double placed(struct iova *iova) { return iova == NULL ? -12 : (double)iova->pfn_lo; }
static double placed_fast(u64 pfn) { return pfn == 0 ? -12 : (double)pfn; }
static double first_of(struct rb_node *node) {
  return node == &iovad->anchor.node ? INFINITY : (double)to_iova(node)->pfn_lo;
}

static void run_work(void) {
#ifdef DEPOT_LIST
  for (int i = 0; i < IOVA_RANGE_CACHE_MAX_SIZE; i++) {
    struct delayed_work *work = &iovad->rcaches[i].work;
    if (!work->pending) continue;
    work->pending = false;
    work->run(&work->work);
  }
#endif
}

static double apply(const double *op) {
  u64 a = whole(op[2]), b = whole(op[3]);
  unsigned cpu = (unsigned)op[1] & 255, device = (unsigned)op[1] >> 8;
  current_cpu = cpu;
  switch ((int)op[0]) {
  case 0: start(cpu, a, b); return 0;
  case 1: return placed_fast(alloc_iova_fast(iovad, a, b, true));
  case 2: return placed_fast(alloc_iova_fast(iovad, a, b, false));
  case 3: return placed(alloc_iova(iovad, a, b, true));
  case 4: return placed(alloc_iova(iovad, a, b, false));
  case 5: free_iova_fast(iovad, b, a); return 0;
  case 6: {
    double result = find_iova(iovad, b) == NULL ? -2 : 0;
    free_iova(iovad, b);
    return result;
  }
  case 7: return reserve_iova(iovad, a, b) == NULL ? -22 : 0;
  case 8: {
    unsigned each;
    for_each_online_cpu(each) free_cpu_cached_iovas(each, iovad);
    free_global_cached_iovas(iovad);
    return 0;
  }
  case 9: online[cpu] = false; free_cpu_cached_iovas(cpu, iovad); return 0;
  case 10: online[cpu] = true; return 0;
  case 11: run_work(); return 0;
  case 12: {
    dma_addr_t iova;
    iommu_dma_forcedac = forcedac[device];
    domains[device].iova_cookie = &cookie;
    iova = iommu_dma_alloc_iova(&domains[device], a, dma_masks[device], &devices[device]);
    return placed_fast(iova / iovad->granule);
  }
  case 13:
    dma_masks[device] = a;
    devices[device].bus_dma_limit = b;
    return 0;
  case 14:
    devices[device].is_pci = b & 1;
    forcedac[device] = b & 2;
    devices[device].iommu = &dev_iommus[device];
    dev_iommus[device].pci_32bit_workaround = (b & 3) == 1;
    domains[device].geometry.force_aperture = a != 0;
    domains[device].geometry.aperture_end = a;
    return 0;
  default: abort();
  }
}

static int compare(void) {
  double op[4], out[5];
  while (fread(op, sizeof(op), 1, stdin) == 1) {
    out[0] = apply(op);
    out[1] = first_of(iovad->cached32_node);
    out[2] = first_of(iovad->cached_node);
    out[3] = (double)iovad->max32_alloc_size;
    out[4] = (double)iova_cache->nr;
    if (fwrite(out, sizeof(out), 1, stdout) != 1) return 1;
  }
  return 0;
}

/* Kinds of the bench: 0 fast alloc, 1 fast free, 2 alloc, 3 free, 4 what follows is timed. Below 4 GiB throughout. */
static int bench(int nr_slots) {
  static int32_t op[4];
  size_t nr = 0, room = 1024, timed = 0;
  int32_t *ops = malloc(room * sizeof(op));
  u64 *slots = calloc(nr_slots, sizeof(u64));
  double best = INFINITY, sum = 0;
  while (fread(op, sizeof(op), 1, stdin) == 1) {
    if (nr == room) ops = realloc(ops, (room *= 2) * sizeof(op));
    memcpy(ops + 4 * nr++, op, sizeof(op));
    if (op[0] == 4) timed = nr;
  }
  double spent = 0;
  for (int round = 0; round < 100 && spent < 5e8; round++) {
    struct timespec from, to;
    start(4, 1, 4096);
    sum = 0;
    for (size_t i = 0; i < nr; i++) {
      const int32_t *o = ops + 4 * i;
      current_cpu = o[3];
      switch (o[0]) {
      case 0: sum += (double)(slots[o[1]] = alloc_iova_fast(iovad, o[2], 0xfffff, true)); break;
      case 1: free_iova_fast(iovad, slots[o[1]], o[2]); break;
      case 2: sum += (double)(slots[o[1]] = alloc_iova(iovad, o[2], 0xfffff, true)->pfn_lo); break;
      case 3: free_iova(iovad, slots[o[1]]); break;
      default: clock_gettime(CLOCK_MONOTONIC, &from); break;
      }
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double all = (to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec), ns = all / (double)(nr - timed);
    spent += all;
    if (ns < best) best = ns;
  }
  printf("%.3f %.0f\n", best, sum);
  return 0;
}

int main(int argc, char **argv) {
  if (iova_cache_get() != 0) return 1;
  if (argc == 2 && strcmp(argv[1], "compare") == 0) return compare();
  if (argc == 3 && strcmp(argv[1], "bench") == 0) return bench(atoi(argv[2]));
  fprintf(stderr, "usage: driver compare | driver bench SLOTS\n");
  return 2;
}
