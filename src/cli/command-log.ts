/**
 * The log that `--compare` names: what the hardware of the recorded machine was told. QEMU's -trace log tells it of VT-d, word
 * for word; of AMD-Vi it has no addresses, so there the guest's own record of its commands is read (trace/amd-commands.ts).
 */
import type { Observed } from '../replay/index.ts';
import { AmdObserved, VtdObserved } from '../replay/index.ts';
import type { ReadOptions } from './byte-source.ts';
import { FileError } from './file-error.ts';
import { readCommands } from './input.ts';
import { counted } from './replay-text.ts';

/** Reads a log. @throws FileError, or ReadInterrupted when the signal fires */
export async function readCommandLog(path: string, options: ReadOptions): Promise<Observed> {
  const vtd = new VtdObserved();
  const amd = new AmdObserved();
  const summary = await readCommands(
    path,
    {
      descriptor: (w0, w1, w2, w3, line) => vtd.command(w0, w1, w2, w3, line),
      mark: (name) => vtd.mark(name),
      skipped() {},
    },
    { command: (d0, d1, d2, d3, line) => amd.command(d0, d1, d2, d3, line), skipped() {} },
    options,
  );
  if (vtd.counts.total > 0) return vtd;
  if (amd.counts.total > 0) return amd;
  if (summary.format !== 'QEMU log') {
    throw new FileError(
      path,
      `holds no command (${counted(summary.events, 'event')} read); give a QEMU log of a run with -trace 'vtd_*' -D FILE, or a ` +
        'trace with a probe on __iommu_queue_command_sync that has d0 to d3',
    );
  }
  if (summary.vendor === 'amdvi') {
    throw new FileError(
      path,
      "is a QEMU log of AMD-Vi, which has no addresses; give the guest's own record: a trace with a probe on " +
        '__iommu_queue_command_sync that has d0 to d3',
    );
  }
  throw new FileError(
    path,
    `holds no vtd_inv_desc line (${counted(summary.lines, 'line')} read). Run QEMU with: -trace 'vtd_*' -D FILE`,
  );
}
