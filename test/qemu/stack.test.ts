/** Our drivers on an IOMMU that nobody here wrote: QEMU's. Where DMA lands is seen in QEMU's memory alone. */
import { afterEach, describe, expect, it } from 'vitest';
import { Rng } from '../../src/base/index.ts';
import { DmaIommu } from '../../src/dma/index.ts';
import { DATA_PFN, QemuMachine } from '../../src/qemu/index.ts';
import type { QemuArch } from '../../src/qemu/index.ts';
import { vtd } from '../../src/spec/index.ts';
import { needTool } from '../skip.ts';

const DATA = DATA_PFN * 4096;
const VTD = 0xfed90000;
let machine: QemuMachine | null = null;
afterEach(() => {
  machine?.close();
  machine = null;
});

/** A machine with the first two devices in one domain. (Behind a bridge QEMU's AMD unit sees another requester id.) */
function start(
  arch: QemuArch,
  preset: string,
): { machine: QemuMachine; domain: ReturnType<QemuMachine['driver']['domainAlloc']> & {} } {
  machine = new QemuMachine({ arch, preset, lifetimeS: 100 });
  const domain = machine.driver.domainAlloc('paging');
  if (domain === null) throw new Error('no domain');
  for (const index of [0, 1]) {
    expect(machine.driver.probeDevice(machine.device(index))).toBe(0);
    expect(machine.driver.attachDev(domain, machine.device(index))).toBe(0);
  }
  return { machine, domain };
}

function word(paddr: number): number {
  return machine?.board.qtest.readl(paddr) ?? -1;
}

/** Whether a write of a device to an IOVA arrives at an address. */
function arrives(device: number, iova: number, paddr: number, value: number): boolean {
  machine?.board.qtest.writel(paddr, 0);
  machine?.board.devices[device].writeWord(iova, value);
  return word(paddr) === value;
}

const PRESETS: readonly (readonly [QemuArch, string])[] = [
  ['intel', 'linux-5.1'],
  ['intel', 'linux-6.12'],
  ['amd', 'linux-6.1'],
  ['amd', 'linux-6.12.96'],
];

describe.each(PRESETS)('%s %s on QEMU', (arch, preset) => {
  it('reaches what is mapped, and nothing else', (context) => {
    needTool(context, 'qemu-system-x86_64');
    const { machine: qemu, domain } = start(arch, preset);
    const rng = new Rng(1);
    const live = new Map<number, number>();
    for (let nr = 1; nr <= 60; nr++) {
      const page = rng.below(64);
      const iova = 0x40000000 + page * 4096;
      const value = nr + 0x100;
      if (live.has(page)) {
        expect(arrives(nr % 2, iova, live.get(page) ?? 0, value)).toBe(true);
        expect(qemu.core.unmap(domain, iova, 4096)).toBe(4096);
        expect(arrives(nr % 2, iova, live.get(page) ?? 0, value)).toBe(false);
        live.delete(page);
      } else {
        const paddr = DATA + rng.below(256) * 4096;
        expect(qemu.core.map(domain, iova, paddr, 4096, 3)).toBe(0);
        live.set(page, paddr);
        expect(arrives(nr % 2, iova, paddr, value)).toBe(true);
      }
    }
  });

  it('maps 2 MiB at once and reads through it', (context) => {
    needTool(context, 'qemu-system-x86_64');
    const { machine: qemu, domain } = start(arch, preset);
    expect(qemu.core.map(domain, 0x80000000, DATA, 2 ** 21, 3)).toBe(0);
    qemu.board.qtest.writel(DATA + 0x12344, 0x5a5a);
    // What a device read shows where it writes it.
    qemu.board.devices[0].read(0x80012344, 4);
    qemu.board.devices[0].write(0x80100000, 4);
    expect(word(DATA + 0x100000)).toBe(0x5a5a);
    expect(qemu.core.unmap(domain, 0x80000000, 2 ** 21)).toBe(2 ** 21);
    expect(arrives(0, 0x80012344, DATA + 0x12344, 7)).toBe(false);
  });

  it('serves the DMA API', (context) => {
    needTool(context, 'qemu-system-x86_64');
    const { machine: qemu, domain } = start(arch, preset);
    const dma = new DmaIommu(qemu.core, domain, qemu.clock, []);
    const address = dma.mapPage(DATA + 0x5000, 4096, 'fromDevice');
    expect(address).toBeGreaterThan(0);
    expect(arrives(1, address, DATA + 0x5000, 0x77)).toBe(true);
    dma.unmapPage(address, 4096, 'fromDevice');
    expect(arrives(1, address, DATA + 0x5000, 0x78)).toBe(false);
  });
});

it('a blocked write is recorded with the reason that our model gives', (context) => {
  needTool(context, 'qemu-system-x86_64');
  const { machine: qemu } = start('intel', 'linux-6.12');
  qemu.board.devices[1].writeWord(0x7000, 1);
  const [lo, word2, word3] = qemu.board.qtest.askAll([
    `readl ${VTD + 0x220}`,
    `readl ${VTD + 0x228}`,
    `readl ${VTD + 0x22c}`,
  ]);
  expect(Number(lo)).toBe(0x7000);
  expect(Number(word2) & 0xffff).toBe(qemu.board.devices[1].sid);
  expect(Number(word3) & 0xff).toBe(vtd.FR_WRITE_DENIED);
});
