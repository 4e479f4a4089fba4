/** A VFIO container with groups that come and go, as the soak knows it: a list of mappings, and the rules of its version. */
import { EEXIST, EFAULT, EINVAL } from '../../src/base/index.ts';
import { VFIO_DMA_UNMAP_ALL, VfioContainer, VfioGroup } from '../../src/vfio/index.ts';
import type { Process } from '../../src/vfio/index.ts';
import { NR_MIXED, NR_VPAGES, V } from './memory.ts';
import { LARGE_PAGE, PAGE, Space, WINDOW_PAGE, WINDOW_PAGES } from './space.ts';
import type { SoakGroup, SoakWorld } from './world.ts';

export interface Area {
  readonly page: number;
  readonly nr: number;
  readonly vpage: number;
  readonly flags: number;
}

export class VfioCaller {
  readonly name: string;
  readonly space: Space;
  readonly #world: SoakWorld;
  readonly #type: number;
  readonly #process: Process;
  readonly #container: VfioContainer;
  readonly #groups = new Map<SoakGroup, VfioGroup>();
  readonly #areas: Area[] = [];

  /** @param type VFIO_TYPE1_IOMMU or VFIO_TYPE1V2_IOMMU */
  constructor(world: SoakWorld, name: string, type: number) {
    this.name = name;
    this.space = new Space(name);
    this.#world = world;
    this.#type = type;
    this.#process = world.memory.process;
    this.#container = new VfioContainer(world.machine.core);
  }

  /** What taking a group over will say. */
  expectsAttach(group: SoakGroup): number {
    return this.#areas.some(({ page, nr }) => group.reserves(page, nr)) ? EINVAL : 0;
  }

  attach(group: SoakGroup): number {
    const vfio = new VfioGroup(group.group);
    const errno = vfio.setContainer(this.#container);
    if (errno !== 0) return errno;
    const chosen = this.#container.iommu === null ? this.#container.setIommu(this.#type) : 0;
    if (chosen === 0) this.#groups.set(group, vfio);
    else this.#world.same(vfio.unsetContainer(), 0, 'unsetContainer');
    return chosen;
  }

  detach(group: SoakGroup): void {
    const isLast = this.#groups.size === 1;
    this.#world.same(this.#groups.get(group)?.unsetContainer() ?? EINVAL, 0, 'unsetContainer');
    this.#groups.delete(group);
    if (!isLast) return;
    // The mappings go with the last group.
    for (const area of this.#areas) this.#forget(area);
    this.#areas.length = 0;
  }

  #forget({ page, nr }: Area): void {
    for (let at = page; at < page + nr; at++) this.space.unmap(at, false);
  }

  step(): void {
    const { rng } = this.#world;
    if (this.#container.iommu === null) return;
    if (rng.chance(this.#areas.length < 60 ? 0.6 : 0.3)) this.#map();
    else this.#unmap();
  }

  #map(): void {
    const world = this.#world;
    const { rng } = world;
    const isLarge = rng.chance(0.01);
    let page = WINDOW_PAGE + rng.below(WINDOW_PAGES);
    let nr = 1 + rng.below(rng.chance(0.05) ? 200 : 12);
    let vpage = rng.below(NR_MIXED - 200);
    if (isLarge) {
      page = LARGE_PAGE + 512 * rng.below(4) + (rng.chance(0.2) ? 1 : 0);
      nr = 512 + rng.below(3) - 1;
      vpage = NR_MIXED + rng.below(NR_VPAGES - NR_MIXED - nr) * (rng.chance(0.5) ? 1 : 0);
    }
    const flags = 1 + rng.below(3);
    const isCrooked = rng.chance(0.02);
    let expected = 0;
    if (isCrooked) expected = EINVAL;
    else if (!this.space.isFree(page, nr)) expected = EEXIST;
    else if ([...this.#groups.keys()].some((group) => group.reserves(page, nr))) expected = EINVAL;
    else if (world.memory.hasHole(vpage, nr)) expected = EFAULT;
    // A device that looked before the map may have had "not present" cached.
    world.look(this.space, page);
    world.nrCalls += 1;
    const request = { iova: page * PAGE, vaddr: V + vpage * PAGE, size: nr * PAGE + (isCrooked ? 512 : 0), flags };
    const result = this.#container.iommu?.mapDma(request, this.#process) ?? EINVAL;
    const isDone = world.agrees(result, expected, `${this.name}: map of pages 0x${page.toString(16)}+${nr}`);
    if (isDone && expected === 0) {
      const area = { page, nr, vpage, flags };
      this.#areas.push(area);
      for (let at = 0; at < nr; at++) this.space.map(page + at, world.memory.frames[vpage + at], flags);
    }
    this.#lookAt(page, nr);
  }

  #lookAt(page: number, nr: number): void {
    this.#world.look(this.space, page);
    this.#world.look(this.space, page + nr - 1);
    this.#world.look(this.space, page + this.#world.rng.below(nr));
  }

  #unmap(): void {
    const world = this.#world;
    const { rng } = world;
    if (this.#areas.length === 0) return;
    world.nrCalls += 1;
    let { page, nr } = rng.pick(this.#areas);
    const dice = rng.below(100);
    if (dice < 1) return this.#unmapAll();
    if (dice < 20) {
      page = Math.max(WINDOW_PAGE, page - rng.below(10));
      nr = 1 + rng.below(30);
    }
    const inside = this.#areas
      .filter((area) => area.page < page + nr && page < area.page + area.nr)
      .sort((a, b) => a.page - b.page);
    let gone: readonly Area[] = inside;
    let expected = 0;
    if (this.#type === 3) {
      if (inside.some((area) => area.page < page || area.page + area.nr > page + nr)) [gone, expected] = [[], EINVAL];
    } else if (inside.length > 0 && inside[0].page < page) {
      gone = [];
    }
    if (expected === 0) expected = gone.reduce((sum, area) => sum + area.nr, 0) * PAGE;
    const result = world.ending(this.space, page, nr, () =>
      this.#container.iommu?.unmapDma({ iova: page * PAGE, size: nr * PAGE }),
    );
    world.same(result ?? EINVAL, expected, `${this.name}: unmap of pages 0x${page.toString(16)}+${nr}`);
    for (const area of gone) {
      this.#areas.splice(this.#areas.indexOf(area), 1);
      this.#forget(area);
      this.#lookAt(area.page, area.nr);
    }
  }

  #unmapAll(): void {
    const expected = this.#areas.reduce((sum, { nr }) => sum + nr, 0) * PAGE;
    const result = this.#container.iommu?.unmapDma({ iova: 0, size: 0, flags: VFIO_DMA_UNMAP_ALL });
    this.#world.same(result ?? EINVAL, expected, `${this.name}: unmap of all`);
    for (const area of this.#areas) {
      this.#forget(area);
      this.#lookAt(area.page, area.nr);
    }
    this.#areas.length = 0;
  }

  finish(): void {
    if (this.space.pages.size > 0) this.#world.fail(`${this.name} is not empty at the end`);
  }
}
