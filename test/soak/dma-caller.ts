/** Drivers of a group's devices, as the soak knows them: mappings by every call of the DMA API, on several CPUs. */
import { EINVAL, ENOMEM } from '../../src/base/index.ts';
import type { DmaDirection, DmaIovaState, DmaSpace } from '../../src/dma/index.ts';
import { DmaDevice, Scatterlist } from '../../src/dma/index.ts';
import type { ResvRegion } from '../../src/iommu/index.ts';
import type { Space } from './space.ts';
import { PAGE, READ, WRITE } from './space.ts';
import type { SoakWorld } from './world.ts';

const DIRECTIONS: readonly DmaDirection[] = ['toDevice', 'fromDevice', 'bidirectional'];
const RIGHTS = { toDevice: READ, fromDevice: WRITE, bidirectional: READ | WRITE } as const;
const MAX_LIVE = 200;

/** One mapping. Pages are in the space; here is how to end it. */
interface Held {
  readonly device: DmaDevice;
  readonly direction: DmaDirection;
  readonly dmaAddress: number;
  readonly nrBytes: number;
  readonly kind: 'page' | 'resource' | 'list' | 'link';
  readonly list: Scatterlist | null;
  readonly state: DmaIovaState | null;
  /** Of a link: bytes that are linked, from the start on, and where its pieces begin. */
  linked: number;
  readonly pieces: number[];
}

export class DmaCaller {
  readonly space: Space;
  readonly #world: SoakWorld;
  readonly #dma: DmaSpace;
  readonly #devices: readonly DmaDevice[];
  readonly #reserved: readonly ResvRegion[];
  readonly #live: Held[] = [];

  constructor(
    world: SoakWorld,
    dma: DmaSpace,
    space: Space,
    masks: readonly number[],
    reserved: readonly ResvRegion[],
  ) {
    this.#world = world;
    this.#dma = dma;
    this.space = space;
    this.#devices = masks.map((dmaMask) => new DmaDevice(dma, { limits: { dmaMask } }));
    this.#reserved = reserved;
  }

  get #isLazy(): boolean {
    return this.#dma.cookie.isLazy;
  }

  step(): void {
    const { rng } = this.#world;
    const dma = this.#dma;
    dma.cpu = rng.below(3);
    const dice = rng.below(100);
    if (dice < 45 && this.#live.length < MAX_LIVE) this.#map();
    else if (dice < 96) this.#unmap();
    else if (dice < 98) this.#misuse();
    else {
      this.#world.machine.clock.advanceBy(rng.below(12_000_000));
      dma.cookie.timeout();
    }
  }

  #map(): void {
    const { rng } = this.#world;
    const device = rng.pick(this.#devices);
    const direction = rng.pick(DIRECTIONS);
    const dice = rng.below(100);
    this.#world.nrCalls += 1;
    // What may come next: the device looks before it is there.
    const guess = this.space.recent(rng.next32());
    if (guess >= 0) this.#world.look(this.space, guess);
    if (dice < 50) this.#mapPage(device, direction, dice < 5);
    else if (dice < 80) this.#mapSg(device, direction);
    else this.#link(device, direction);
  }

  #buffer(most: number): { paddr: number; nrBytes: number } {
    const { rng } = this.#world;
    const isWhole = rng.chance(0.5);
    const paddr = (0x40_0000 + rng.below(0x10_0000)) * PAGE + (isWhole ? 0 : rng.below(PAGE));
    return { paddr, nrBytes: isWhole ? PAGE * (1 + rng.below(most)) : 1 + rng.below(most * PAGE) };
  }

  /** Enters the pages of a buffer at its DMA address. */
  #enter(dmaAddress: number, paddr: number, nrBytes: number, direction: DmaDirection): void {
    const first = Math.floor(dmaAddress / PAGE);
    const last = Math.floor((dmaAddress + nrBytes - 1) / PAGE);
    if (dmaAddress % PAGE !== paddr % PAGE) this.#world.fail('the offset in the page is lost');
    if (first === 0) this.#world.fail('page 0 was handed out');
    for (const { start, nrBytes: bytes } of this.#reserved) {
      if (first * PAGE < start + bytes && (last + 1) * PAGE > start) this.#world.fail('a reserved page was handed out');
    }
    for (let page = first; page <= last; page++) {
      this.space.map(page, Math.floor(paddr / PAGE) + page - first, RIGHTS[direction]);
    }
  }

  /** The first page, the last and one between. */
  #lookAt(dmaAddress: number, nrBytes: number): void {
    const first = Math.floor(dmaAddress / PAGE);
    const last = Math.floor((dmaAddress + nrBytes - 1) / PAGE);
    this.#world.look(this.space, first);
    if (last > first) this.#world.look(this.space, last);
    if (last > first + 1) this.#world.look(this.space, first + this.#world.rng.below(last - first));
  }

  #mapPage(device: DmaDevice, direction: DmaDirection, isResource: boolean): void {
    const { rng } = this.#world;
    const { paddr, nrBytes } = this.#buffer(rng.chance(0.01) ? 600 : rng.pick([1, 1, 2, 8, 40]));
    const dmaAddress = isResource
      ? device.mapResource(paddr, nrBytes, direction)
      : device.mapPage(paddr, nrBytes, direction);
    if (!this.#world.agrees(Math.min(dmaAddress, 0), 0, `map of ${nrBytes} bytes`)) return;
    this.#enter(dmaAddress, paddr, nrBytes, direction);
    this.#lookAt(dmaAddress, nrBytes);
    const kind = isResource ? 'resource' : 'page';
    this.#live.push({ device, direction, dmaAddress, nrBytes, kind, list: null, state: null, linked: 0, pieces: [] });
  }

  #mapSg(device: DmaDevice, direction: DmaDirection): void {
    const { rng } = this.#world;
    const nr = 1 + rng.below(rng.chance(0.1) ? 40 : 8);
    const list = new Scatterlist(nr);
    for (let element = 0; element < nr; element++) {
      const { paddr, nrBytes } = this.#buffer(3);
      list.add(paddr, nrBytes);
    }
    const count = device.mapSg(list, direction);
    if (!this.#world.agrees(Math.min(count, 0), 0, `map of a list of ${nr}`)) return;
    let [segment, done] = [0, 0];
    for (let element = 0; element < nr; element++) {
      const at = list.dmaAddress[segment] + done;
      this.#enter(at, list.paddr[element], list.nrBytes[element], direction);
      if (element === 0 || rng.chance(0.3)) this.#lookAt(at, list.nrBytes[element]);
      done += list.nrBytes[element];
      if (done === list.dmaBytes[segment]) [segment, done] = [segment + 1, 0];
    }
    if (segment !== count || done !== 0) this.#world.fail('segments and elements differ');
    const dmaAddress = list.dmaAddress[0];
    const nrBytes = list.dmaAddress[count - 1] + list.dmaBytes[count - 1] - dmaAddress;
    this.#live.push({ device, direction, dmaAddress, nrBytes, kind: 'list', list, state: null, linked: 0, pieces: [] });
  }

  /** A range of several pages, linked in pieces, some of it not at all. */
  #link(device: DmaDevice, direction: DmaDirection): void {
    const world = this.#world;
    const { rng } = world;
    const nrPages = 1 + rng.below(12);
    const state = device.iovaTryAlloc(0, nrPages * PAGE);
    if (state === null) {
      world.agrees(ENOMEM, 0, 'IOVAs for links');
      return;
    }
    let linked = 0;
    const pieces: number[] = [];
    const wanted = rng.chance(0.2) ? rng.below(nrPages + 1) : nrPages;
    while (linked < wanted) {
      const nr = Math.min(1 + rng.below(4), wanted - linked);
      const { paddr } = this.#buffer(1);
      const base = paddr - (paddr % PAGE);
      world.nrCalls += 1;
      if (!world.agrees(state.link(base, linked * PAGE, nr * PAGE, direction), 0, 'link')) break;
      this.#enter(state.dmaAddress + linked * PAGE, base, nr * PAGE, direction);
      pieces.push(linked);
      linked += nr;
    }
    if (linked > 0) {
      world.nrCalls += 1;
      world.same(state.sync(0, linked * PAGE), 0, 'sync');
      this.#lookAt(state.dmaAddress, linked * PAGE);
    }
    this.#live.push({
      device,
      direction,
      dmaAddress: state.dmaAddress,
      nrBytes: nrPages * PAGE,
      kind: 'link',
      list: null,
      state,
      linked: linked * PAGE,
      pieces,
    });
  }

  #undo({ device, kind, list, state, linked, dmaAddress, nrBytes, direction }: Held): number {
    if (kind === 'page') return device.unmapPage(dmaAddress, nrBytes, direction);
    if (kind === 'resource') return device.unmapResource(dmaAddress, nrBytes);
    if (list !== null) return device.unmapSg(list, list.nents, direction);
    return state === null ? EINVAL : state.destroy(linked, direction);
  }

  #unmap(): void {
    const world = this.#world;
    const { rng } = world;
    if (this.#live.length === 0) return;
    const index = rng.below(this.#live.length);
    const held = this.#live[index];
    world.nrCalls += 1;
    if (held.kind === 'link' && held.pieces.length > 1 && rng.chance(0.3)) return this.#unlink(held);
    this.#live[index] = this.#live[this.#live.length - 1];
    this.#live.pop();
    if (rng.chance(0.3)) this.#lookAt(held.dmaAddress, Math.max(1, held.kind === 'link' ? held.linked : held.nrBytes));
    // A full ring flushes before it takes the range: what waited until now is out of reach then, and the range waits.
    world.same(this.#undo(held), 0, `unmap of a ${held.kind}`);
    const bytes = held.kind === 'link' ? held.linked : held.nrBytes;
    if (bytes > 0) {
      const last = Math.floor((held.dmaAddress + bytes - 1) / PAGE);
      for (let page = Math.floor(held.dmaAddress / PAGE); page <= last; page++) this.space.unmap(page, this.#isLazy);
      this.#lookAt(held.dmaAddress, bytes);
    }
    if (rng.chance(0.1)) world.same(this.#undo(held), EINVAL, `second unmap of a ${held.kind}`);
  }

  /** The last pieces of a range come off; its IOVAs stay taken. (A cut through a piece may cut a large leaf: Linux warns.) */
  #unlink(held: Held): void {
    const { rng } = this.#world;
    const [first] = held.pieces.splice(1 + rng.below(held.pieces.length - 1));
    const nrBytes = held.linked - first * PAGE;
    this.#world.same(held.state?.unlink(first * PAGE, nrBytes, held.direction) ?? EINVAL, 0, 'unlink');
    const start = held.dmaAddress / PAGE + first;
    for (let page = start; page < start + nrBytes / PAGE; page++) this.space.unmap(page, false);
    held.linked = first * PAGE;
    this.#lookAt(start * PAGE, nrBytes);
  }

  #misuse(): void {
    const world = this.#world;
    const { rng } = world;
    const device = rng.pick(this.#devices);
    const bad = rng.pick([0, -1, -PAGE, 0.5, Number.NaN, 2 ** 53, Infinity]);
    const before = this.#dma.nrLive;
    world.nrCalls += 1;
    const dice = rng.below(5);
    if (dice === 0) world.same(device.mapPage(0x4000_0000, bad, 'toDevice'), EINVAL, 'mapPage of no size');
    else if (dice === 1) world.same(device.mapPage(rng.pick([-1, 0.5, 2 ** 52]), PAGE, 'toDevice'), EINVAL, 'mapPage');
    else if (dice === 2) world.same(device.unmapPage(0xfee0_0000, PAGE, 'toDevice'), EINVAL, 'unmapPage of a doorbell');
    else if (dice === 3) world.same(device.mapSg(new Scatterlist(1), 'toDevice'), EINVAL, 'mapSg of nothing');
    else {
      const page = this.space.recent(rng.next32());
      if (page < 0 || this.space.pages.has(page)) return;
      world.same(device.unmapPage(page * PAGE, PAGE, 'toDevice'), EINVAL, 'unmapPage of what is not mapped');
    }
    if (this.#dma.nrLive !== before) world.fail('a refused call changed something');
  }

  /** Ranges that are taken: of live mappings, and of those that wait for their flush. */
  check(): void {
    const waiting = this.#dma.nrLive - this.#live.length;
    if (waiting < 0 || (waiting > 0 && !this.#isLazy)) this.#world.fail(`${waiting} IOVA ranges too many are taken`);
  }

  finish(): void {
    while (this.#live.length > 0) this.#unmap();
    this.#dma.cookie.drain();
    this.space.pending.clear();
    this.#world.same(this.#dma.nrLive, 0, 'IOVA ranges at the end');
  }
}
