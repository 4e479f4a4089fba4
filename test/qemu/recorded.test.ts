/** Must hold: every translation that QEMU logged under a recorded kernel is what our tables and our units say. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import type { Recording } from '../../src/oracle/index.ts';
import { compareRecorded, findRecordings } from '../../src/oracle/index.ts';

const ROOT = join(import.meta.dirname, '../..');
const recordings = findRecordings([join(ROOT, 'traces'), join(ROOT, '../shared/traces')]);
const LOG = 'qemu-xlate.log.gz';
const folder = mkdtempSync(join(tmpdir(), 'iommukit-recorded-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('recordings of both architectures are here', () => {
  expect(recordings.map(({ name }) => name)).toEqual(
    expect.arrayContaining([
      'amd-lazy-small-6.12',
      'amd-strict-boot-6.1',
      'amd-strict-nvmeonly-6.1',
      'amd-strict-small-6.1',
      'intel-cmon-strict-nvmeonly-6.1',
      'intel-cmon-strict-small-6.12',
    ]),
  );
});

describe("QEMU's translations", () => {
  test.each(recordings)('$name: all agree', (recording) => {
    const run = compareRecorded(recording);
    expect(run.different).toEqual([]);
    expect(run.agree).toBe(run.translations);
    expect(run.translations).toBeGreaterThan(400);
    // Linux merges pages on AMD-Vi; the Intel runs have none larger than 4 KiB.
    if (run.name.startsWith('amd-')) expect(run.large).toBeGreaterThan(100);
  });
});

/** A copy of a recording with another log. */
function altered({ name, folder: from }: Recording, change: (log: string) => string): Recording {
  const copy = { name, folder: join(folder, name) };
  cpSync(from, copy.folder, { recursive: true });
  const log = gunzipSync(readFileSync(join(from, LOG))).toString('latin1');
  writeFileSync(join(copy.folder, LOG), gzipSync(Buffer.from(change(log), 'latin1')));
  return copy;
}

describe('a log that says something else is found', () => {
  const named = (name: string): Recording => {
    const found = recordings.find((each) => each.name === name);
    if (found === undefined) throw new Error(`no recording ${name}`);
    return found;
  };

  test.each([
    ['intel-cmon-strict-small-6.12', /(vtd_dmar_translate dev 00:04\.00 iova \S+ -> gpa 0x)(\w+)/g],
    ['amd-lazy-small-6.12', /(amdvi_translation_result devid: 00:04\.0 gpa \S+ hpa 0x)(\w+)/g],
  ])('%s: one page further, in every 100th line', (name, pattern) => {
    let nr = 0;
    let nrChanged = 0;
    const copy = altered(named(name), (log) =>
      log.replaceAll(pattern, (line: string, before: string, digits: string) => {
        nr += 1;
        if (nr % 100 !== 0) return line;
        nrChanged += 1;
        return `${before}${(parseInt(digits, 16) + 0x10000000).toString(16)}`;
      }),
    );
    const run = compareRecorded(copy);
    expect(nrChanged).toBeGreaterThan(40);
    expect(run.translations - run.agree).toBe(nrChanged);
    expect(run.different[0]).toMatch(new RegExp(pattern.source));
  });

  test('another device, where the trace tells whose each mapping is', () => {
    const copy = altered(named('intel-cmon-strict-small-6.12'), (log) =>
      log.replaceAll('vtd_dmar_translate dev 00:05.00', 'vtd_dmar_translate dev 00:06.00'),
    );
    const run = compareRecorded(copy);
    expect(run.translations - run.agree).toBeGreaterThan(50);
  });
});
