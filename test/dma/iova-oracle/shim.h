/*
 * What drivers/iommu/iova.c and lib/rbtree.c need of the kernel to run as a program: own definitions, none taken from it.
 * Forced into every file by build.sh, which also lays empty headers where the sources include one. Memory never fails; a
 * CPU is a number that the caller sets; locks are one atomic exchange, or nothing with -DNOLOCK.
 */
#ifndef IOVA_ORACLE_SHIM_H
#define IOVA_ORACLE_SHIM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef u64 dma_addr_t;
typedef u64 phys_addr_t;
typedef unsigned int gfp_t;

#define BITS_PER_LONG 64
#define ULLONG_MAX (~0ull)
#define PAGE_SIZE 65536ul /* the largest granule that can be tried */
#define GFP_ATOMIC 0
#define GFP_KERNEL 0
#define __GFP_NOWARN 0
#define SLAB_HWCACHE_ALIGN 0
#define ENOMEM 12
#define __percpu
#define __always_inline inline __attribute__((always_inline))
#define unlikely(x) __builtin_expect(!!(x), 0)
#define likely(x) __builtin_expect(!!(x), 1)
#define READ_ONCE(x) (*(volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))
#define smp_wmb() __asm__ volatile("" ::: "memory")
#define rcu_assign_pointer(p, v) ((p) = (v))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define EXPORT_SYMBOL(x)
#define EXPORT_SYMBOL_GPL(x)
#define MODULE_AUTHOR(x)
#define MODULE_LICENSE(x)
#define MODULE_DESCRIPTION(x)
#define IS_REACHABLE(x) 1
#define static_assert(c) _Static_assert(c, #c)
#define pr_err(...) ((void)0)
#define BUG_ON(c) do { if (c) abort(); } while (0)
extern unsigned long nr_warnings;
#define WARN_ON(c) ({ bool warn_ = !!(c); nr_warnings += warn_; warn_; })
#define min(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ < b_ ? a_ : b_; })
#define min_not_zero(a, b) ({ __typeof__(a) p_ = (a), q_ = (b); p_ == 0 ? q_ : q_ == 0 ? p_ : p_ < q_ ? p_ : q_; })
#define swap(a, b) do { __typeof__(a) t_ = (a); (a) = (b); (b) = t_; } while (0)
#define ALIGN(x, a) (((x) + (a) - 1) & ~((__typeof__(x))(a) - 1))
#define DMA_BIT_MASK(n) ((n) == 64 ? ~0ull : (1ull << (n)) - 1)

static inline bool is_power_of_2(unsigned long n) { return n != 0 && (n & (n - 1)) == 0; }
static inline unsigned long __ffs(unsigned long n) { return __builtin_ctzl(n); }
static inline unsigned fls_long(unsigned long n) { return n == 0 ? 0 : 64 - __builtin_clzl(n); }
static inline unsigned order_base_2(unsigned long n) { return n > 1 ? fls_long(n - 1) : 0; }
static inline unsigned long roundup_pow_of_two(unsigned long n) { return 1ul << order_base_2(n); }
static inline unsigned bits_per(unsigned long n) { return n < 2 ? 1 : fls_long(n); }

/* Locks. */
typedef struct { int taken; } spinlock_t;
struct mutex { int taken; };
#define DEFINE_MUTEX(name) struct mutex name
#define mutex_lock(m) ((void)(m))
#define mutex_unlock(m) ((void)(m))
#define assert_spin_locked(l) ((void)(l))
static inline void spin_lock_init(spinlock_t *l) { l->taken = 0; }
#ifdef NOLOCK
static inline void spin_lock(spinlock_t *l) { (void)l; }
static inline void spin_unlock(spinlock_t *l) { (void)l; }
#else
static inline void spin_lock(spinlock_t *l) {
  while (__atomic_exchange_n(&l->taken, 1, __ATOMIC_ACQUIRE)) {
  }
}
static inline void spin_unlock(spinlock_t *l) { __atomic_store_n(&l->taken, 0, __ATOMIC_RELEASE); }
#endif
#define spin_lock_irqsave(l, flags) ((void)((flags) = 0), spin_lock(l))
#define spin_unlock_irqrestore(l, flags) ((void)(flags), spin_unlock(l))

/* CPUs. */
#define MAX_CPUS 64
extern unsigned nr_cpus, current_cpu;
extern bool online[MAX_CPUS];
#define for_each_possible_cpu(cpu) for ((cpu) = 0; (cpu) < nr_cpus; (cpu)++)
#define for_each_online_cpu(cpu) for ((cpu) = 0; (cpu) < nr_cpus; (cpu)++) if (online[cpu])
static inline unsigned num_online_cpus(void) {
  unsigned nr = 0;
  for (unsigned cpu = 0; cpu < nr_cpus; cpu++) nr += online[cpu];
  return nr;
}
#define __alloc_percpu(size, align) calloc(MAX_CPUS, size)
#define free_percpu(p) free(p)
#define per_cpu_ptr(p, cpu) ((p) + (cpu))
#define raw_cpu_ptr(p) ((p) + current_cpu)
#define cache_line_size() 64
struct hlist_node { int unused; };
#define hlist_entry_safe(p, type, member) ((p) ? container_of(p, type, member) : NULL)
#define CPUHP_IOMMU_IOVA_DEAD 0
#define cpuhp_setup_state_multi(...) 0
#define cpuhp_remove_multi_state(...) ((void)0)
#define cpuhp_state_add_instance_nocalls(...) 0
#define cpuhp_state_remove_instance_nocalls(...) ((void)0)
#define ERR_PTR(x) ((void *)(long)(x))

/* Memory: a cache keeps what it was given back, as a slab does. */
#define kcalloc(n, size, gfp) calloc(n, size)
#define kzalloc(size, gfp) calloc(1, size)
#define kfree(p) free(p)
struct kmem_cache { size_t size; void *spare; long nr; };
static inline struct kmem_cache *kmem_cache_create(const char *name, size_t size, int align, int flags, void *ctor) {
  struct kmem_cache *cache = calloc(1, sizeof(*cache));
  (void)name, (void)align, (void)flags, (void)ctor;
  cache->size = size;
  return cache;
}
static inline void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp) {
  void *p = cache->spare;
  (void)gfp;
  cache->nr++;
  if (p == NULL) return malloc(cache->size);
  cache->spare = *(void **)p;
  return p;
}
static inline void *kmem_cache_zalloc(struct kmem_cache *cache, gfp_t gfp) {
  return memset(kmem_cache_alloc(cache, gfp), 0, cache->size);
}
static inline void kmem_cache_free(struct kmem_cache *cache, void *p) {
  cache->nr--;
  *(void **)p = cache->spare;
  cache->spare = p;
}
#define kmem_cache_destroy(c) free(c)
#define kmemleak_transient_leak(p) ((void)0)

/* Delayed work: noted, run when the driver program says so. */
struct work_struct { int unused; };
struct delayed_work { struct work_struct work; void (*run)(struct work_struct *); bool pending; };
#define INIT_DELAYED_WORK(w, f) ((w)->run = (f), (w)->pending = false)
#define schedule_delayed_work(w, delay) ((void)((w)->pending = true))
#define cancel_delayed_work_sync(w) ((void)((w)->pending = false))
#define msecs_to_jiffies(ms) (ms)

/* The little that iommu_dma_alloc_iova of dma-iommu.c asks its device and domain. */
struct dev_iommu { bool pci_32bit_workaround; };
struct device { u64 bus_dma_limit; bool is_pci; struct dev_iommu *iommu; };
struct iommu_domain_geometry { u64 aperture_end; bool force_aperture; };
struct iommu_domain { struct iommu_domain_geometry geometry; struct iommu_dma_cookie *iova_cookie; };
#define dev_is_pci(dev) ((dev)->is_pci)
#define dev_notice(dev, ...) ((void)(dev))
#endif
