/** Short traces, written by hand after the recorded ones, with one property each. */
import { describe, expect, it } from 'vitest';
import type { AuditResult } from '../../src/audit/index.ts';
import { CallReader, judge } from '../../src/audit/index.ts';
import { FtraceTextReader, Names } from '../../src/trace/index.ts';

let clock = 1;

function hex(page: number): string {
  return (page * 4096).toString(16).padStart(16, '0');
}

/** One line of a text trace. */
function line(text: string, { task = 'a-10', cpu = 0, flags = '.....' } = {}): string {
  clock += 1;
  return `${task.padStart(16)} [00${cpu}] ${flags} ${(clock / 1000).toFixed(6).padStart(12)}: ${text}\n`;
}

type At = Parameters<typeof line>[1];

function map(page: number, nrPages: number, at?: At, paddr = 0x5000): string {
  return line(
    `map: IOMMU: iova=0x${hex(page)} - 0x${hex(page + nrPages)} paddr=0x${hex(paddr)} size=${nrPages * 4096}`,
    at,
  );
}

function unmap(page: number, nrPages: number, at?: At): string {
  const size = nrPages * 4096;
  return line(`unmap: IOMMU: iova=0x${hex(page)} - 0x${hex(page + nrPages)} size=${size} unmapped_size=${size}`, at);
}

/** A page-selective IOTLB descriptor. */
function psi(domain: number, page: number, am = 0, { ih = 0, ...at }: { ih?: number } & NonNullable<At> = {}): string {
  const low = page * 4096 + am + ih * 64;
  return line(
    `qi_submit: iotlb_inv dmar0: 0x${(domain * 65536 + 0xf2).toString(16)} 0x${low.toString(16)} 0x0 0x0`,
    at,
  );
}

function dsi(domain: number, at?: At): string {
  return line(`qi_submit: iotlb_inv dmar0: 0x${(domain * 65536 + 0xe2).toString(16)} 0x0 0x0 0x0`, at);
}

function amd(words: readonly number[], at?: At): string {
  const text = words.map((word, i) => `d${i}=0x${(word >>> 0).toString(16)}`).join(' ');
  return line(`amdcmd: (__iommu_queue_command_sync+0x0/0xd0) ${text}`, at);
}

/** A task that does something else, long after: all calls are over. */
function end(): string {
  clock += 10_000;
  return line('dma_sync_single_for_cpu: 0000:00:04.0 dir=FROM_DEVICE dma_addr=1000 size=64 attrs=', { task: 'z-99' });
}

function audit(text: string, cachingMode: boolean | null = null): AuditResult {
  const names = new Names();
  const reader = new CallReader(names);
  const source = new FtraceTextReader(names, reader);
  source.push(Buffer.from(text + end(), 'latin1'));
  const { hasIrqContext, skipped } = source.end();
  reader.finish();
  expect(skipped).toBe(text.includes('nonsense') ? 1 : 0);
  return judge(reader, names, { cachingMode, hasIrqContext });
}

function contracts({ findings }: AuditResult): string[] {
  return findings.map(({ contract, iova }) => `${contract} ${iova ?? ''}`);
}

describe('maps', () => {
  it.each([
    ['held by one command', map(0x100, 4) + psi(3, 0x100, 2), []],
    ['too narrow', map(0x100, 4) + psi(3, 0x100, 1), ['C-MAP-VISIBLE 0x102000']],
    ['of two pieces', map(0x100, 1) + map(0x101, 3) + psi(3, 0x100, 2), []],
    ['at another address', map(0x100, 1) + psi(3, 0x101), ['C-MAP-VISIBLE 0x100000']],
    ['with IH set (VT-d 6.5.2.3)', map(0x100, 1) + psi(3, 0x100, 0, { ih: 1 }), ['C-MAP-VISIBLE 0x100000']],
    ['by a domain flush', map(0x100, 1) + dsi(3), []],
    ['late', map(0x100, 1) + map(0x300, 1) + psi(3, 0x100) + psi(3, 0x300), ['C-MAP-VISIBLE 0x100000']],
    ['late, of neighbours', map(0x100, 1) + map(0x101, 1) + psi(3, 0x100) + psi(3, 0x101), ['C-MAP-VISIBLE 0x100000']],
    ['by another task', map(0x100, 1) + psi(3, 0x100, 0, { task: 'b-11' }), ['C-MAP-VISIBLE 0x100000']],
    ['after a move to another CPU', map(0x100, 1) + psi(3, 0x100, 0, { cpu: 1 }), []],
  ])('%s', (_name, text, expected) => {
    const result = audit(text, true);
    expect(contracts(result)).toEqual(expected);
    expect(result.verdict).toBe(expected.length > 0 ? 'violated' : 'held');
    expect(audit(text, false)).toMatchObject({ verdict: 'held', findings: [] });
  });

  it('one to one before an attachment owe nothing', () => {
    const other = map(0x300, 1) + psi(3, 0x300);
    const direct = map(0, 16, undefined, 0) + line('attach_device_to_domain: IOMMU: device=0000:00:1f.0');
    expect(contracts(audit(other + direct, true))).toEqual(['C-ATTACH ']);
    expect(contracts(audit(other + map(1, 16, undefined, 0) + direct, true))).toEqual([
      'C-MAP-VISIBLE 0x1000',
      'C-ATTACH ',
    ]);
  });
});

describe('interrupts', () => {
  const irq = { flags: 'd.h1.' };

  it('do not end the call of the task that they interrupt', () => {
    const text = map(0x100, 1) + unmap(0x200, 1, irq) + psi(3, 0x200, 0, irq) + psi(3, 0x100);
    expect(audit(text, true)).toMatchObject({ verdict: 'held', covered: 2 });
  });

  it('are over when their task goes on', () => {
    const strict = map(0x100, 1) + psi(3, 0x100) + unmap(0x100, 1, irq) + psi(3, 0x100, 0, irq);
    const late = unmap(0x200, 1, irq) + map(0x300, 1) + psi(3, 0x200, 0, irq) + psi(3, 0x300);
    expect(audit(strict, true).verdict).toBe('held');
    expect(contracts(audit(strict + map(0x200, 1) + psi(3, 0x200) + late, true))).toEqual(['C-UNMAP-GONE 0x200000']);
  });

  it('that a text does not tell make no finding', () => {
    const text = (map(0x100, 1) + unmap(0x200, 1) + psi(3, 0x200) + psi(3, 0x100)).replaceAll(' .....', '');
    const names = new Names();
    const reader = new CallReader(names);
    const source = new FtraceTextReader(names, reader);
    source.push(Buffer.from(text, 'latin1'));
    expect(source.end().hasIrqContext).toBe(false);
    reader.finish();
    const result = judge(reader, names, { cachingMode: true, hasIrqContext: false });
    expect(result).toMatchObject({ verdict: 'inconclusive', findings: [] });
    expect(result.inconclusive[0]).toMatch(/no flags column/);
  });
});

describe('unmaps', () => {
  const flushed = map(0x100, 1) + psi(3, 0x100) + unmap(0x100, 1) + psi(3, 0x100);

  it('of several pieces under one flush, as VFIO does', () => {
    const text = unmap(0x100, 1) + unmap(0x101, 7) + psi(3, 0x100, 3);
    expect(audit(flushed + text, true)).toMatchObject({ verdict: 'held', calls: { unmap: 2 } });
  });

  it('that free page tables need IH clear: 2 MiB of small pages, not one large page', () => {
    const small = map(0x200, 256) + map(0x300, 256, undefined, 0x9001) + psi(3, 0x200, 9) + unmap(0x200, 512);
    const large = map(0x200, 512, undefined, 0x8000) + psi(3, 0x200, 9) + unmap(0x200, 512);
    expect(contracts(audit(small + psi(3, 0x200, 9, { ih: 1 }), true))).toEqual(['C-TABLE-LIVE 0x200000']);
    expect(audit(small + psi(3, 0x200, 9), true).verdict).toBe('held');
    expect(audit(large + psi(3, 0x200, 9, { ih: 1 }), true).verdict).toBe('held');
  });

  it('under a domain that never mapped the address, where the domains are known', () => {
    const text = map(0x100, 1) + psi(3, 0x100) + map(0x300, 1) + psi(4, 0x300) + unmap(0x300, 1) + psi(4, 0x300);
    const wrong = text + map(0x300, 1) + psi(4, 0x300) + map(0x500, 1) + psi(3, 0x500);
    const again = wrong + unmap(0x300, 1) + psi(3, 0x300);
    expect(audit(wrong, true).verdict).toBe('held');
    // Domain 3 may have mapped 0x300 before the trace began.
    expect(audit(again, true).verdict).toBe('held');
    expect(audit(`${again}${map(0x300, 1)}${psi(4, 0x300)}`, true).verdict).toBe('violated');
  });

  it('in a queue are flushed before their address is used again', () => {
    const strict = map(0x100, 1) + psi(3, 0x100);
    const reused = map(0x100, 1) + psi(3, 0x100);
    expect(audit(strict + unmap(0x100, 1) + dsi(3, { task: 'b-11' }) + reused, true).verdict).toBe('held');
    const early = strict + unmap(0x100, 1) + reused + dsi(3, { task: 'b-11' });
    expect(contracts(audit(early, true))).toEqual(['C-LAZY-BOUND 0x100000']);
  });
});

describe('AMD-Vi', () => {
  const wait = [1, 0x10000000, 2, 0];
  const pages = (w2: number, domain = 2): number[] => [0, 0x30000000 | domain, w2, 0];

  it.each([
    ['held', map(0x100, 2) + amd(pages(0x100003)) + amd(wait), []],
    ['too narrow', map(0x100, 2) + amd(pages(0x100002)) + amd(wait), ['C-MAP-VISIBLE 0x101000']],
    [
      'not waited for',
      map(0x100, 1) + amd(pages(0x100002)) + map(0x300, 1) + amd(pages(0x300002)) + amd(wait),
      ['C-MAP-VISIBLE 0x100000'],
    ],
    ['waited for by another task', map(0x100, 1) + amd(pages(0x100002)) + amd(wait, { task: 'b-11' }), []],
    ['behind its wait', map(0x100, 1) + amd(wait) + amd(pages(0x100002)) + amd(wait), ['C-MAP-VISIBLE 0x100000']],
    ['with PDE clear', map(0x100, 1) + amd(pages(0x100000)) + amd(wait), ['C-MAP-VISIBLE 0x100000']],
    ['all pages', map(0x100, 9) + amd([0, 0x30000002, 0xfffff003 | 0, 0x7fffffff]) + amd(wait), []],
  ])('%s', (_name, text, expected) => {
    expect(contracts(audit(text, true))).toEqual(expected);
  });
});

describe('inconclusive', () => {
  it.each([
    ['no command', map(0x100, 1), /no invalidation command/],
    ['no attachment, maps without a flush', unmap(0x100, 1) + psi(3, 0x100) + map(0x100, 1), /--caching-mode/],
    [
      'unmaps of an unknown domain',
      map(0x100, 1) + psi(3, 0x100) + map(0x200, 1) + psi(3, 0x200) + unmap(0x900, 1),
      /record `-e dma`/,
    ],
    ['a gap', map(0x100, 1) + psi(3, 0x100) + 'CPU:0 [LOST 7 EVENTS]\n' + map(0x200, 1), /events were lost/],
    ['a line that cannot be read', map(0x100, 1) + psi(3, 0x100) + 'nonsense\n', /could not be read/],
  ])('%s', (_name, text, reason) => {
    const result = audit(text);
    expect(result).toMatchObject({ verdict: 'inconclusive', findings: [] });
    expect(result.inconclusive.join('\n')).toMatch(reason);
  });

  it('findings before a gap count', () => {
    const text = `${map(0x100, 1)}${map(0x200, 1)}${psi(3, 0x200)}CPU:0 [LOST 7 EVENTS]\n`;
    expect(audit(text, true)).toMatchObject({ verdict: 'violated', nrFindings: 1 });
  });
});

it('keeps its memory bounded while one context is silent', () => {
  let text = map(0x100, 1, { task: 'silent-5' });
  for (let i = 0; i < 5000; i++) text += map(0x1000 + i * 2, 1) + psi(3, 0x1000 + i * 2);
  const result = audit(text, true);
  expect(contracts(result)).toEqual(['C-MAP-VISIBLE 0x100000']);
  expect(result).toMatchObject({ covered: 5000, calls: { map: 5001 } });
});

it('says how much more than needed was invalidated', () => {
  // 3 pages by 4, 1 page by 1: 5 pages for 4.
  const text = map(0x100, 3) + psi(3, 0x100, 2) + map(0x200, 1) + psi(3, 0x200) + psi(3, 0x900);
  expect(audit(text, true)).toMatchObject({ overInvalidation: 0.25, commands: { total: 3, page: 3, useless: 1 } });
});
