/**
 * The log that `--compare` names: what the hardware of the recorded machine was told. QEMU's -trace log tells it of VT-d word
 * for word, of AMD-Vi without addresses; the guest's own record of its commands has them (trace/amd-commands.ts).
 */
import type { Observed } from '../replay/index.ts';
import { AmdObserved, VtdObserved } from '../replay/index.ts';
import type { ReadOptions } from './byte-source.ts';
import { FileError } from './file-error.ts';
import { readCommands } from './input.ts';
import { counted } from './text-table.ts';

/** Reads a log. @throws FileError, or ReadInterrupted when the signal fires */
export async function readCommandLog(path: string, options: ReadOptions): Promise<Observed> {
  const vtd = new VtdObserved();
  const amd = new AmdObserved();
  const qemuAmd = new AmdObserved(false);
  const summary = await readCommands(
    path,
    {
      descriptor: (w0, w1, w2, w3, line) => vtd.command(w0, w1, w2, w3, line),
      amdCommand: (operation, domain, _device, line) => qemuAmd.operation(operation, domain, line),
      mark: (name) => {
        vtd.mark(name);
        qemuAmd.mark(name);
      },
      skipped() {},
    },
    { command: (d0, d1, d2, d3, line) => amd.command(d0, d1, d2, d3, line), skipped() {} },
    options,
  );
  if (vtd.counts.total > 0) return vtd;
  if (amd.counts.total > 0) return amd;
  if (qemuAmd.counts.total > 0) return qemuAmd;
  if (summary.format !== 'QEMU log') {
    throw new FileError(
      path,
      `holds no command (${counted(summary.events, 'event')} read); give a QEMU log of a run with -trace 'vtd_*' -D FILE, or a ` +
        'trace with a probe on __iommu_queue_command_sync that has d0 to d3',
    );
  }
  throw new FileError(
    path,
    `holds no vtd_inv_desc and no amdvi_* command line (${counted(summary.lines, 'line')} read). Run QEMU with: ` +
      "-trace 'vtd_*' -trace 'amdvi_*' -D FILE",
  );
}
