/** An IOAS of an iommufd with devices that come and go, as the soak knows it: areas, and what is reserved in it. */
import { EADDRINUSE, EEXIST, EFAULT, EINVAL, ENOENT, EPERM } from '../../src/base/index.ts';
import type { Iommu } from '../../src/iommu/index.ts';
import type { IommufdDevice, Process } from '../../src/vfio/index.ts';
import { IOAS_MAP_FIXED_IOVA, IOAS_MAP_READABLE, IOAS_MAP_WRITEABLE, Iommufd } from '../../src/vfio/index.ts';
import { NR_MIXED, NR_VPAGES, V } from './memory.ts';
import { LARGE_PAGE, PAGE, READ, Space, WINDOW_PAGE, WINDOW_PAGES, WRITE } from './space.ts';
import type { SoakGroup, SoakWorld } from './world.ts';

interface FdArea {
  readonly page: number;
  readonly nr: number;
  readonly vpage: number;
  /** What it was first mapped with: copies may ask for no more. */
  readonly writable: boolean;
}

export class FdCaller {
  readonly name: string;
  readonly space: Space;
  readonly #world: SoakWorld;
  readonly #fd: Iommufd;
  readonly #id: number;
  readonly #process: Process;
  readonly #groups = new Map<SoakGroup, IommufdDevice[]>();
  readonly #areas: FdArea[] = [];
  #other: FdCaller | null = null;

  constructor(world: SoakWorld, fd: Iommufd, name: string) {
    this.#world = world;
    this.#fd = fd;
    this.#id = fd.ioasAlloc();
    this.name = name;
    this.space = new Space(name);
    this.#process = world.memory.process;
  }

  /** Two address spaces of one iommufd, which copy from each other. Little memory to move frames in, so that seams are met. */
  static pair(world: SoakWorld, core: Iommu): FdCaller[] {
    const fd = new Iommufd(core, { memoryLimit: 1024 });
    const [one, two] = ['ioas 1', 'ioas 2'].map((name) => new FdCaller(world, fd, name));
    one.#other = two;
    two.#other = one;
    return [one, two];
  }

  get #isFilled(): boolean {
    return this.#groups.size > 0;
  }

  /** What taking a group over will say. */
  expectsAttach(group: SoakGroup): number {
    if (this.#areas.some(({ page, nr }) => group.reserves(page, nr))) return EADDRINUSE;
    if (!this.#isFilled && this.#areas.some(({ vpage, nr }) => this.#world.memory.hasHole(vpage, nr))) return EFAULT;
    return 0;
  }

  attach(group: SoakGroup): number {
    const bound: IommufdDevice[] = [];
    let errno = 0;
    for (const device of group.devices) {
      const one = this.#fd.bind(device, group.group);
      if (typeof one === 'number') {
        errno = one;
        break;
      }
      bound.push(one);
    }
    let attached = 0;
    for (const one of bound) {
      if (errno !== 0) break;
      const result = one.attach(this.#id);
      if (result < 0) errno = result;
      else attached += 1;
    }
    if (errno === 0) {
      this.#groups.set(group, bound);
      return 0;
    }
    for (const one of bound.slice(0, attached)) one.detach();
    for (const one of bound) one.unbind();
    return errno;
  }

  detach(group: SoakGroup): void {
    const bound = this.#groups.get(group) ?? [];
    for (const one of bound) one.detach();
    for (const one of bound) one.unbind();
    this.#groups.delete(group);
  }

  /** The other address space of the same iommufd. */
  get other(): FdCaller {
    return this.#other ?? this;
  }

  /** A group goes straight to the other space (IOMMU replace): no moment without one. */
  replace(group: SoakGroup): number {
    const bound = this.#groups.get(group) ?? [];
    const result = bound[0].replace(this.other.#id);
    if (result < 0) return result;
    this.#groups.delete(group);
    this.other.#groups.set(group, bound);
    return 0;
  }

  step(): void {
    const { rng } = this.#world;
    const dice = rng.below(100);
    if (dice < (this.#areas.length < 60 ? 45 : 20)) this.#map();
    else if (dice < 55) this.#copy();
    else this.#unmap();
  }

  #isReserved(page: number, nr: number): boolean {
    return [...this.#groups.keys()].some((group) => group.reserves(page, nr));
  }

  #map(): void {
    const world = this.#world;
    const { rng } = world;
    const isLarge = rng.chance(0.01);
    const isFixed = rng.chance(0.7);
    let page = WINDOW_PAGE + rng.below(WINDOW_PAGES);
    let nr = 1 + rng.below(rng.chance(0.05) ? 200 : 12);
    let vpage = rng.below(NR_MIXED - 200);
    if (isLarge) {
      page = LARGE_PAGE + 512 * rng.below(4);
      nr = 512;
      vpage = NR_MIXED + 512 * rng.below((NR_VPAGES - NR_MIXED) / 512);
    }
    const rights = 1 + rng.below(3);
    // Without a device anything goes that is no hole of the address space; nothing is pinned until one comes.
    let expected = 0;
    if (isFixed && this.#isReserved(page, nr)) expected = EINVAL;
    else if (isFixed && !this.space.isFree(page, nr)) expected = EEXIST;
    else if (this.#isFilled && world.memory.hasHole(vpage, nr)) expected = EFAULT;
    if (isFixed) world.look(this.space, page);
    world.nrCalls += 1;
    const flags =
      (isFixed ? IOAS_MAP_FIXED_IOVA : 0) |
      ((rights & READ) !== 0 ? IOAS_MAP_READABLE : 0) |
      ((rights & WRITE) !== 0 ? IOAS_MAP_WRITEABLE : 0);
    const request = { vaddr: V + vpage * PAGE, nrBytes: nr * PAGE, flags, iova: page * PAGE };
    const result = this.#fd.ioasMap(this.#id, request, this.#process);
    this.#mapped(result, expected, isFixed ? page : -1, { page, nr, vpage, writable: (rights & WRITE) !== 0 }, rights);
  }

  /** Checks the answer of a map or a copy, and enters it. */
  #mapped(result: number, expected: number, fixed: number, asked: FdArea, rights: number): void {
    const world = this.#world;
    const { nr, vpage, writable } = asked;
    if (expected < 0) {
      world.agrees(result, expected, `${this.name}: map of pages 0x${asked.page.toString(16)}+${nr}`);
      if (fixed >= 0) world.look(this.space, fixed);
      return;
    }
    if (!world.agrees(Math.min(result, 0), 0, `${this.name}: map of pages 0x${asked.page.toString(16)}+${nr}`)) {
      if (fixed >= 0) world.look(this.space, fixed);
      return;
    }
    if (result % PAGE !== 0) world.fail(`${this.name}: map of ${nr} pages gave ${result}`);
    const page = result / PAGE;
    if (fixed >= 0) world.same(page, fixed, 'a fixed IOVA');
    if (this.#isReserved(page, nr)) world.fail(`${this.name}: a reserved page was handed out`);
    this.#areas.push({ page, nr, vpage, writable });
    for (let at = 0; at < nr; at++) this.space.map(page + at, world.memory.frames[vpage + at], rights);
    if (this.#isFilled) this.#lookAt(page, nr);
  }

  #lookAt(page: number, nr: number): void {
    this.#world.look(this.space, page);
    this.#world.look(this.space, page + nr - 1);
    this.#world.look(this.space, page + this.#world.rng.below(nr));
  }

  /** A part of an area of the other space, or of this one, shows here too. */
  #copy(): void {
    const world = this.#world;
    const { rng } = world;
    const source = rng.chance(0.8) ? this.#other : this;
    if (source === null || source.#areas.length === 0 || this.#areas.length > 80) return;
    const from = rng.pick(source.#areas);
    const skip = rng.below(from.nr);
    const nr = 1 + rng.below(from.nr - skip);
    const page = WINDOW_PAGE + rng.below(WINDOW_PAGES);
    const rights = 1 + rng.below(3);
    const vpage = from.vpage + skip;
    let expected = 0;
    if (this.#isReserved(page, nr)) expected = EINVAL;
    else if (!this.space.isFree(page, nr)) expected = EEXIST;
    else if ((rights & WRITE) !== 0 && !from.writable) expected = EPERM;
    else if (this.#isFilled && world.memory.hasHole(vpage, nr)) expected = EFAULT;
    world.nrCalls += 1;
    const flags =
      IOAS_MAP_FIXED_IOVA |
      ((rights & READ) !== 0 ? IOAS_MAP_READABLE : 0) |
      ((rights & WRITE) !== 0 ? IOAS_MAP_WRITEABLE : 0);
    const result = this.#fd.ioasCopy(this.#id, {
      source: source.#id,
      sourceIova: (from.page + skip) * PAGE,
      nrBytes: nr * PAGE,
      flags,
      iova: page * PAGE,
    });
    this.#mapped(result, expected, page, { page, nr, vpage, writable: from.writable }, rights);
  }

  #unmap(): void {
    const world = this.#world;
    const { rng } = world;
    if (this.#areas.length === 0) return;
    world.nrCalls += 1;
    const index = rng.below(this.#areas.length);
    const area = this.#areas[index];
    const { page, nr } = area;
    if (nr > 1 && rng.chance(0.1)) {
      world.same(this.#fd.ioasUnmap(this.#id, (page + 1) * PAGE, (nr - 1) * PAGE), ENOENT, `${this.name}: a cut`);
      if (this.#isFilled) this.#lookAt(page, nr);
      return;
    }
    const result = world.ending(this.space, page, nr, () => this.#fd.ioasUnmap(this.#id, page * PAGE, nr * PAGE));
    world.same(result, nr * PAGE, `${this.name}: unmap of pages 0x${page.toString(16)}+${nr}`);
    this.#areas[index] = this.#areas[this.#areas.length - 1];
    this.#areas.pop();
    for (let at = page; at < page + nr; at++) this.space.unmap(at, false);
    if (this.#isFilled) this.#lookAt(page, nr);
    if (rng.chance(0.1)) world.same(this.#fd.ioasUnmap(this.#id, page * PAGE, nr * PAGE), ENOENT, 'unmap twice');
  }

  finish(): void {
    while (this.#areas.length > 0) this.#unmap();
    this.#world.same(this.#fd.destroy(this.#id), 0, `${this.name}: destroy`);
  }
}
