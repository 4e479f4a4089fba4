/**
 * The ranges of an IOVA space in address order (the rbtree of drivers/iommu/iova.c, Linux 6.1) and the search for a place.
 *
 * Linux walks the ranges downwards until a gap is large enough. Here each range knows how large a request the gap below it can
 * take, and the largest such figure of its subtree, so that the walk skips what it would only have looked at: the same
 * place, in logarithmic time. An AVL tree, since no answer depends on its shape.
 *
 * A range is known by its offset into `#links`, a multiple of 8; its bounds are pages, inclusive. Offset 0 stands for none and
 * is the tree's rim: its right child is the root, its successor the lowest range.
 */
export const NO_RANGE = 0;
/** The range above all others, which Linux calls the anchor: searches without a better start begin below it. */
export const ANCHOR = 8;
/** Page of the anchor. Above every page that a 64-bit address with 4 KiB pages has, and exact. */
const ANCHOR_PFN = 2 ** 53;

const LEFT = 0;
const RIGHT = 1;
const PARENT = 2;
const HEIGHT = 3;
const BELOW = 4;
const ABOVE = 5;
/** Largest aligned request that the gap below this range can take, at most FIT_CAP; its maximum over the subtree. */
const FIT = 6;
const MAX_FIT = 7;
const FIELDS = 8;

/**
 * Requests of more pages look at every gap of this many (4 MiB). A higher cap would cost all others: the gap at an end of
 * what is in use changes with every call, and so would the maxima above it.
 */
const FIT_CAP = 1024;

/**
 * Largest n such that a range of n pages, aligned to n rounded up to a power of two, lies in [start, end); at most FIT_CAP.
 * Whatever is smaller fits as well: up to the largest aligned block anyway, and above it the alignment stays the same.
 */
export function largestFit(start: number, end: number): number {
  const nrPages = end - start;
  if (nrPages <= 0) return 0;
  if (nrPages >= 2 * FIT_CAP - 1) return FIT_CAP;
  // Only the low bits matter below this length, so the rest is 32-bit arithmetic.
  const from = start & (4 * FIT_CAP - 1);
  const to = from + nrPages;
  const block = 1 << (31 - Math.clz32(nrPages));
  const behind = to - ((from + block - 1) & -block);
  let fit: number;
  if (behind < block) fit = Math.max(block >> 1, behind);
  else fit = Math.max(block, to - ((from + 2 * block - 1) & (-2 * block)));
  return Math.min(fit, FIT_CAP);
}

export class IovaTree {
  /** The range whose gap below holds what `search` found. */
  above: number = NO_RANGE;
  #links: Int32Array = new Int32Array(FIELDS * 64);
  /** Pairs (first page, last page), at a quarter of a range's offset. */
  #bounds: Float64Array = new Float64Array(2 * 64);
  /** First offset never used, and a chain of given back ones through ABOVE. */
  #unused: number = 2 * FIELDS;
  #spare: number = NO_RANGE;
  #nr: number = 0;

  constructor() {
    this.clear();
  }

  /** Ranges held, without the anchor. */
  get nrRanges(): number {
    return this.#nr;
  }

  /** Drops every range but the anchor. */
  clear(): void {
    const links = this.#links;
    links.fill(0, 0, 2 * FIELDS);
    // Nothing lies below the lowest range: the page before page 0 is the last one taken.
    this.#bounds.set([-1, -1, ANCHOR_PFN, ANCHOR_PFN]);
    links[NO_RANGE + RIGHT] = ANCHOR;
    links[NO_RANGE + ABOVE] = ANCHOR;
    links[NO_RANGE + BELOW] = ANCHOR;
    links[ANCHOR + HEIGHT] = 1;
    links[ANCHOR + FIT] = FIT_CAP;
    links[ANCHOR + MAX_FIT] = FIT_CAP;
    this.#unused = 2 * FIELDS;
    this.#spare = NO_RANGE;
    this.#nr = 0;
  }

  first(range: number): number {
    return this.#bounds[range >> 2];
  }

  last(range: number): number {
    return this.#bounds[(range >> 2) + 1];
  }

  /** The next range in address order; NO_RANGE behind the anchor. */
  next(range: number): number {
    return this.#links[range + ABOVE];
  }

  /** The lowest range, which is the anchor when there is no other. */
  get lowest(): number {
    return this.#links[NO_RANGE + ABOVE];
  }

  /** The range that holds a page, or NO_RANGE. */
  find(pfn: number): number {
    const links = this.#links;
    const bounds = this.#bounds;
    let range = links[NO_RANGE + RIGHT];
    while (range !== NO_RANGE) {
      if (pfn < bounds[range >> 2]) range = links[range + LEFT];
      else if (pfn > bounds[(range >> 2) + 1]) range = links[range + RIGHT];
      else return range;
    }
    return NO_RANGE;
  }

  /** The lowest range that ends at or above a page; the anchor when no other does. */
  firstReaching(pfn: number): number {
    const links = this.#links;
    const bounds = this.#bounds;
    let found = ANCHOR;
    let range = links[NO_RANGE + RIGHT];
    while (range !== NO_RANGE) {
      if (bounds[(range >> 2) + 1] >= pfn) {
        found = range;
        range = links[range + LEFT];
      } else {
        range = links[range + RIGHT];
      }
    }
    return found;
  }

  /**
   * The highest place for `nrPages` that starts at a multiple of `align`, ends before `end` and lies below `start`, a range.
   * Sets `above` for an insertion there. @param align a power of two @returns the first page, or -1
   */
  search(start: number, end: number, nrPages: number, align: number): number {
    const links = this.#links;
    const bounds = this.#bounds;
    let range = start;
    // Gaps that begin at or above `end` take nothing: go to the one that `end` cuts, or to the highest below.
    if (bounds[(links[range + BELOW] >> 2) + 1] >= end) range = this.firstReaching(end);
    const high = Math.min(end, bounds[range >> 2]);
    let place = Math.floor((high - nrPages) / align) * align;
    if (place > bounds[(links[range + BELOW] >> 2) + 1]) {
      this.above = range;
      return place;
    }
    if (place < 0) return -1;
    // A gap of n pages always takes an aligned request of a quarter of n: what an unaligned request can rely on.
    const fit = Math.min(align < nrPages ? Math.ceil(nrPages / 4) : nrPages, FIT_CAP);
    for (;;) {
      range = this.#lowerWithFit(range, fit);
      if (range === NO_RANGE) return -1;
      place = Math.floor((bounds[range >> 2] - nrPages) / align) * align;
      if (place > bounds[(links[range + BELOW] >> 2) + 1]) {
        this.above = range;
        return place;
      }
    }
  }

  /** The highest range below a given one with at least `fit` in the gap below it. */
  #lowerWithFit(below: number, fit: number): number {
    const links = this.#links;
    let range = below;
    for (;;) {
      let inside = links[range + LEFT];
      if (links[inside + MAX_FIT] >= fit) {
        for (;;) {
          const right = links[inside + RIGHT];
          if (links[right + MAX_FIT] >= fit) inside = right;
          else if (links[inside + FIT] >= fit) return inside;
          else inside = links[inside + LEFT];
        }
      }
      // Up to the first range that this subtree lies above.
      let isRight = false;
      while (!isRight) {
        const parent = links[range + PARENT];
        if (parent === NO_RANGE) return NO_RANGE;
        isRight = links[parent + RIGHT] === range;
        range = parent;
      }
      if (links[range + FIT] >= fit) return range;
    }
  }

  /** Adds [first, last], which lies in the gap below a range. @returns the new range */
  insertBelow(above: number, first: number, last: number): number {
    const range = this.#take();
    const links = this.#links;
    const bounds = this.#bounds;
    const below = links[above + BELOW];
    bounds[range >> 2] = first;
    bounds[(range >> 2) + 1] = last;
    const fit = largestFit(bounds[(below >> 2) + 1] + 1, first);
    links[range + LEFT] = NO_RANGE;
    links[range + RIGHT] = NO_RANGE;
    links[range + HEIGHT] = 1;
    links[range + BELOW] = below;
    links[range + ABOVE] = above;
    links[range + FIT] = fit;
    links[range + MAX_FIT] = fit;
    links[below + ABOVE] = range;
    links[above + BELOW] = range;
    links[above + FIT] = largestFit(last + 1, bounds[above >> 2]);
    let parent = above;
    if (links[above + LEFT] === NO_RANGE) {
      links[above + LEFT] = range;
    } else {
      // The highest range of the left subtree: nothing stands to its right yet.
      parent = below;
      links[below + RIGHT] = range;
    }
    links[range + PARENT] = parent;
    this.#nr += 1;
    this.#rebalance(parent);
    this.#refit(above);
    return range;
  }

  /** Takes a range out. Not the anchor. */
  remove(range: number): void {
    const links = this.#links;
    const bounds = this.#bounds;
    const below = links[range + BELOW];
    const above = links[range + ABOVE];
    links[below + ABOVE] = above;
    links[above + BELOW] = below;
    links[above + FIT] = largestFit(bounds[(below >> 2) + 1] + 1, bounds[above >> 2]);
    const left = links[range + LEFT];
    const right = links[range + RIGHT];
    const parent = links[range + PARENT];
    let from = parent;
    if (left === NO_RANGE || right === NO_RANGE) {
      const child = left + right;
      this.#replaceChild(parent, range, child);
      if (child !== NO_RANGE) links[child + PARENT] = parent;
    } else {
      // The next range, lowest of the right subtree, takes its place.
      from = above;
      if (above !== right) {
        from = links[above + PARENT];
        const child = links[above + RIGHT];
        links[from + LEFT] = child;
        if (child !== NO_RANGE) links[child + PARENT] = from;
        links[above + RIGHT] = right;
        links[right + PARENT] = above;
      }
      links[above + LEFT] = left;
      links[left + PARENT] = above;
      links[above + PARENT] = parent;
      links[above + HEIGHT] = links[range + HEIGHT];
      links[above + MAX_FIT] = links[range + MAX_FIT];
      this.#replaceChild(parent, range, above);
    }
    links[range + ABOVE] = this.#spare;
    this.#spare = range;
    this.#nr -= 1;
    this.#rebalance(from);
    this.#refit(above);
  }

  /** Moves the first page of a range, within the gap below it. */
  setFirst(range: number, first: number): void {
    const bounds = this.#bounds;
    bounds[range >> 2] = first;
    this.#links[range + FIT] = largestFit(bounds[(this.#links[range + BELOW] >> 2) + 1] + 1, first);
    this.#refit(range);
  }

  /** Corrects heights and maxima upwards from a range, turning where one side is two higher, until nothing changes. */
  #rebalance(from: number): void {
    const links = this.#links;
    let range = from;
    while (range !== NO_RANGE) {
      const left = links[range + LEFT];
      const right = links[range + RIGHT];
      const leftHeight = links[left + HEIGHT];
      const rightHeight = links[right + HEIGHT];
      const lean = leftHeight - rightHeight;
      if (lean > 1) {
        range = this.#turnSide(range, LEFT);
      } else if (lean < -1) {
        range = this.#turnSide(range, RIGHT);
      } else {
        const height = 1 + (lean > 0 ? leftHeight : rightHeight);
        const maxFit = Math.max(links[range + FIT], Math.max(links[left + MAX_FIT], links[right + MAX_FIT]));
        if (links[range + HEIGHT] === height && links[range + MAX_FIT] === maxFit) return;
        links[range + HEIGHT] = height;
        links[range + MAX_FIT] = maxFit;
      }
      range = links[range + PARENT];
    }
  }

  /** Brings up the child on a side, or that child's inner child where it is the higher one. @returns the subtree's new top */
  #turnSide(range: number, side: number): number {
    const links = this.#links;
    const child = links[range + side];
    const inner = links[child + 1 - side];
    if (links[inner + HEIGHT] > links[links[child + side] + HEIGHT]) this.#turn(child, 1 - side);
    return this.#turn(range, side);
  }

  #turn(range: number, side: number): number {
    const links = this.#links;
    const top = links[range + side];
    const inner = links[top + 1 - side];
    const parent = links[range + PARENT];
    links[range + side] = inner;
    if (inner !== NO_RANGE) links[inner + PARENT] = range;
    links[top + 1 - side] = range;
    links[range + PARENT] = top;
    links[top + PARENT] = parent;
    this.#replaceChild(parent, range, top);
    this.#sum(range);
    this.#sum(top);
    return top;
  }

  #replaceChild(parent: number, from: number, to: number): void {
    this.#links[parent + (this.#links[parent + LEFT] === from ? LEFT : RIGHT)] = to;
  }

  #sum(range: number): void {
    const links = this.#links;
    const left = links[range + LEFT];
    const right = links[range + RIGHT];
    links[range + HEIGHT] = 1 + Math.max(links[left + HEIGHT], links[right + HEIGHT]);
    links[range + MAX_FIT] = Math.max(links[range + FIT], links[left + MAX_FIT], links[right + MAX_FIT]);
  }

  /** Carries a changed FIT upwards. */
  #refit(from: number): void {
    const links = this.#links;
    let range = from;
    while (range !== NO_RANGE) {
      const children = Math.max(links[links[range + LEFT] + MAX_FIT], links[links[range + RIGHT] + MAX_FIT]);
      const maxFit = Math.max(links[range + FIT], children);
      if (links[range + MAX_FIT] === maxFit) return;
      links[range + MAX_FIT] = maxFit;
      range = links[range + PARENT];
    }
  }

  #take(): number {
    const spare = this.#spare;
    if (spare !== NO_RANGE) {
      this.#spare = this.#links[spare + ABOVE];
      return spare;
    }
    const range = this.#unused;
    if (range === this.#links.length) {
      const links = new Int32Array(2 * range);
      links.set(this.#links);
      this.#links = links;
      const bounds = new Float64Array(range >> 1);
      bounds.set(this.#bounds);
      this.#bounds = bounds;
    }
    this.#unused = range + FIELDS;
    return range;
  }
}
