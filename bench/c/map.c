/*
 * The C side of bench/map.js: a 4-level, 4 KiB-page table with the work of src/pt/table.ts done plainly. Own code: one
 * walk per table, presence tested at every entry, last leaf table remembered, whole tables detached by an unmap that covers
 * them after checking that every entry was present. Prints "name ns" lines, ns per page, best of many short rounds.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint64_t entry_t;
#define RW 3ull
#define ADDR 0x000ffffffffff000ull

static entry_t *free_tables[1 << 12];
static int nr_free;
static entry_t *root;
static uint64_t leaf_start = ~0ull;
static entry_t *leaf_table;

static entry_t *table_alloc(void) {
  entry_t *t = nr_free ? free_tables[--nr_free] : aligned_alloc(4096, 4096);
  memset(t, 0, 4096);
  return t;
}

static void table_free(entry_t *t) {
  memset(t, 0x6b, 4096); /* as PageAllocator.free poisons */
  free_tables[nr_free++] = t;
}

static entry_t *descend(uint64_t iova) {
  entry_t *t = root;
  for (int shift = 39; shift > 12; shift -= 9) {
    entry_t *e = &t[(iova >> shift) & 511];
    if (!(*e & RW)) *e = (uint64_t)table_alloc() | RW;
    t = (entry_t *)(*e & ADDR);
  }
  leaf_start = iova & ~0x1fffffull;
  leaf_table = t;
  return t;
}

__attribute__((noinline)) static uint64_t map_pages(uint64_t iova, uint64_t paddr, uint64_t nr) {
  uint64_t done = 0;
  while (done < nr) {
    uint64_t at = iova + (done << 12);
    entry_t *t = (at & ~0x1fffffull) == leaf_start ? leaf_table : descend(at);
    unsigned i = (at >> 12) & 511;
    uint64_t room = 512 - i, n = nr - done < room ? nr - done : room;
    entry_t e = (paddr + (done << 12)) | RW;
    for (uint64_t k = 0; k < n; k++, e += 4096) {
      if (t[i + k] & RW) return done + k;
      t[i + k] = e;
    }
    done += n;
  }
  return done;
}

static entry_t *gone[1 << 12];
static int nr_gone;

__attribute__((noinline)) static uint64_t unmap_pages(uint64_t iova, uint64_t nr) {
  uint64_t done = 0;
  while (done < nr) {
    uint64_t at = iova + (done << 12);
    unsigned i = (at >> 12) & 511;
    entry_t *t, *parent = 0;
    if (nr < 512 && (at & ~0x1fffffull) == leaf_start) {
      t = leaf_table;
    } else {
      t = root;
      for (int shift = 39; shift > 12; shift -= 9) {
        parent = &t[(at >> shift) & 511];
        if (!(*parent & RW)) return done;
        t = (entry_t *)(*parent & ADDR);
      }
    }
    uint64_t room = 512 - i, n = nr - done < room ? nr - done : room, k;
    if (n == 512) {
      for (k = 0; k < 512 && (t[k] & RW); k++) {
      }
      if (k == 512) {
        *parent = 0;
        gone[nr_gone++] = t;
        if ((at & ~0x1fffffull) == leaf_start) leaf_start = ~0ull;
        done += 512;
        continue;
      }
    }
    for (k = 0; k < n; k++) {
      if (!(t[i + k] & RW)) return done + k;
      t[i + k] = 0;
    }
    done += n;
  }
  return done;
}

__attribute__((noinline)) static uint64_t lookup(uint64_t iova) {
  entry_t *t = root;
  for (int shift = 39; shift > 12; shift -= 9) {
    entry_t e = t[(iova >> shift) & 511];
    if (!(e & RW)) return ~0ull;
    t = (entry_t *)(e & ADDR);
  }
  entry_t e = t[(iova >> 12) & 511];
  return e & RW ? (e & ADDR) + (iova & 4095) : ~0ull;
}

static double now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void flush(void) {
  while (nr_gone) table_free(gone[--nr_gone]);
}

int main(void) {
  static const int sizes[] = {1, 16, 256, 512, 32768};
  root = table_alloc();
  for (int s = 0; s < 5; s++) {
    uint64_t n = sizes[s], total = n < 16384 ? 16384 : n, calls = total / n;
    uint64_t base = 0x4000000000ull; /* 256 GiB: 1 GiB aligned, so that spans line up as they do in the JS side */
    double best_map = 1e18, best_unmap = 1e18;
    int rounds = 400;
    for (int r = 0; r < rounds; r++) {
      double t0 = now_ns();
      for (uint64_t c = 0; c < calls; c++)
        if (map_pages(base + (c * n << 12), 0x100000000ull + (c * n << 12), n) != n) return 1;
      double t1 = now_ns();
      for (uint64_t c = 0; c < calls; c++)
        if (unmap_pages(base + (c * n << 12), n) != n) return 1;
      double t2 = now_ns();
      flush();
      if ((t1 - t0) / total < best_map) best_map = (t1 - t0) / total;
      if ((t2 - t1) / total < best_unmap) best_unmap = (t2 - t1) / total;
    }
    printf("map %d %.3f\nunmap %d %.3f\n", (int)n, best_map, (int)n, best_unmap);
  }
  map_pages(0x4000000000ull, 0x100000000ull, 4096);
  double best = 1e18;
  uint64_t sum = 0;
  for (int r = 0; r < 400; r++) {
    double t0 = now_ns();
    for (uint64_t p = 0; p < 4096; p++) sum += lookup(0x4000000000ull + (p << 12));
    double t1 = now_ns();
    if ((t1 - t0) / 4096 < best) best = (t1 - t0) / 4096;
  }
  printf("lookup 1 %.3f\n", best);
  return sum == 42;
}
