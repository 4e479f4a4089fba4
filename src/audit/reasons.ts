/** Why an audit has no verdict, and which events to record for one. */
import type { TraceFindings } from './trace-findings.ts';

export interface Doubts {
  readonly found: TraceFindings;
  readonly cachingMode: boolean | null;
  readonly hasIrqContext: boolean;
  /** Unmaps that may wait in the flush queue of an unknown domain. */
  readonly unjudged: number;
  /** Findings that gaps of the trace may have made. */
  readonly doubtful: number;
}

const RECORD_COMMANDS =
  'record the commands too: on Intel `-e intel_iommu:qi_submit` (Linux 5.12 and later), on AMD a kprobe, ' +
  "`echo 'p:amdcmd __iommu_queue_command_sync d0=+0(%si):x32 d1=+4(%si):x32 d2=+8(%si):x32 d3=+12(%si):x32' > /sys/kernel/tracing/kprobe_events`, " +
  'and give its record with --commands when it is another file';
const RECORD_DMA = 'record `-e dma` (Linux 6.12 and later)';

export function inconclusiveReasons({ found, cachingMode, hasIrqContext, unjudged, doubtful }: Doubts): string[] {
  const reasons: string[] = [];
  if (found.nrCommands === 0) return [`the trace has no invalidation command; ${RECORD_COMMANDS}`];
  if (found.hasGap) {
    reasons.push(
      'events were lost or could not be read, commands may be among them; record with larger buffers (`trace-cmd record -b 65536`)',
    );
  }
  if (!hasIrqContext && doubtful > 0) {
    reasons.push(
      'the text has no flags column, so an interrupt looks like its task; give the `trace` file or the trace.dat',
    );
  }
  if (cachingMode === null && found.nrMapCalls > 0) {
    const where = found.isAmd
      ? 'bit 26 of /sys/class/iommu/ivhd0/amd-iommu/cap'
      : 'bit 7 of /sys/class/iommu/dmar0/intel-iommu/cap';
    reasons.push(
      `maps are not flushed, and no attachment shows whether the hardware caches not-present entries; give --caching-mode (${where})`,
    );
  }
  if (unjudged > 0) {
    reasons.push(
      `${unjudged} unmaps without an invalidation may wait in the flush queue of a domain that the trace does not tell; ${RECORD_DMA}, ` +
        'from boot on or for longer than the 10 ms of a flush queue',
    );
  }
  if (doubtful > 0) reasons.push(`${doubtful} calls look broken and are not counted for the reasons above`);
  return reasons;
}
