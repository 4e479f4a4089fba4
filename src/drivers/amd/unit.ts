/**
 * One AMD-Vi unit under the driver's control (struct amd_iommu): control register, rings, features. Order of
 * early_enable_iommu and iommu_init_pci of drivers/iommu/amd/init.c.
 */
import { errnoName, hex } from '../../base/index.ts';
import type { Platform } from '../../mem/index.ts';
import { amdvi } from '../../spec/index.ts';
import { CommandQueue } from './command-queue.ts';
import { invalidateAll, invalidateAllPages, invalidateDevtabEntry, invalidateInterruptTable } from './commands.ts';
import type { DeviceTable } from './device-table.ts';
import { EventLog } from './event-log.ts';
import type { AmdEvent } from './event-log.ts';
import type { AmdPreset } from './preset.ts';

/** CTRL_INV_TO_1S: how long hardware waits for a device's answer to an invalidation. */
const INV_TIMEOUT_1S = 4;
const LAST_ID = 0xffff;

/** Where a unit is and what it says of itself before its registers can be asked: firmware's IVHD block, configuration space. */
export interface AmdUnitScope {
  /** Physical address of the register window. */
  readonly base: number;
  /** First word of the capability block in configuration space: NpCache, EFRSup. */
  readonly capHeader: number;
  /**
   * Low word of the feature register as the IVHD block copies it. Default 0: firmware does not tell (an old IVHD type), and
   * the first flush of all caches goes id by id, because nobody knows yet whether there is a command for all.
   */
  readonly ivhdFeatures?: number;
  /** Whether the unit serves a requester id. Default: every one. */
  readonly serves?: (sid: number) => boolean;
}

export class AmdUnitDriver {
  readonly queue: CommandQueue;
  readonly events: EventLog;
  /** Not-present entries may be cached. */
  readonly npCache: boolean;
  readonly #platform: Platform;
  readonly #base: number;
  readonly #table: DeviceTable;
  readonly #preset: AmdPreset;
  #features: number;

  /**
   * Switches the unit on: device table, command buffer, event log, translation, then one flush of everything, since nobody
   * knows what firmware or a crashed kernel left. @throws RangeError when the unit does not answer: a driver that went on
   * would find every later flush failing
   */
  constructor(platform: Platform, scope: AmdUnitScope, table: DeviceTable, preset: AmdPreset) {
    this.#platform = platform;
    this.#base = scope.base;
    this.#table = table;
    this.#preset = preset;
    this.#features = scope.ivhdFeatures ?? 0;
    this.npCache = (scope.capHeader & amdvi.CAP_NP_CACHE) !== 0;
    this.queue = new CommandQueue(platform, scope.base, preset.waitData);
    this.events = new EventLog(platform, scope.base);
    this.#control(0, amdvi.CONTROL_IOMMU_EN | amdvi.CONTROL_CMD_BUF_EN | amdvi.CONTROL_EVENT_LOG_EN);
    const timeout = INV_TIMEOUT_1S << amdvi.CONTROL_INV_TIMEOUT_SHIFT;
    this.#control(amdvi.CONTROL_COHERENT | timeout, (7 << amdvi.CONTROL_INV_TIMEOUT_SHIFT) & ~timeout);
    platform.writeq(scope.base + amdvi.DEV_TABLE_REG, table.baseLo, table.baseHi);
    this.queue.start();
    this.#control(amdvi.CONTROL_CMD_BUF_EN, 0);
    this.events.start();
    this.#control(amdvi.CONTROL_EVENT_LOG_EN, 0);
    this.#control(amdvi.CONTROL_IOMMU_EN, 0);
    this.flushAllCaches();
    if ((scope.capHeader & amdvi.CAP_EFR_SUP) !== 0) this.#features = platform.readl(scope.base + amdvi.EFR_REG);
  }

  /** Changes bits of the control register, which is 64 bits wide. */
  #control(set: number, clear: number): void {
    const register = this.#base + amdvi.CONTROL_REG;
    const lo = (this.#platform.readl(register) & ~clear) | set;
    this.#platform.writeq(register, lo, this.#platform.readl(register + 4));
  }

  /**
   * Drops everything the unit caches (iommu_flush_all_caches): one command where it has one, else id by id. Domain ids are
   * taken to end where device ids do, since nobody has more domains than devices: an assumption of Linux, not of hardware.
   */
  flushAllCaches(): void {
    const { queue } = this;
    let errno: number;
    if (((this.#features >>> amdvi.EFR_IA_BIT) & 1) === 1) {
      errno = invalidateAll(queue) || queue.wait();
    } else {
      const domain = (_queue: CommandQueue, did: number): number => invalidateAllPages(queue, did, true);
      errno =
        this.#flushEach(invalidateDevtabEntry) || this.#flushEach(invalidateInterruptTable) || this.#flushEach(domain);
    }
    if (errno !== 0) {
      throw new RangeError(`the AMD-Vi unit at ${hex(this.#base)} does not come up: ${errnoName(errno)}`);
    }
  }

  /** One command for every id, and a wait. Ends at the first that cannot be queued: each would wait for room as long. */
  #flushEach(command: (queue: CommandQueue, id: number) => number): number {
    const last = this.#preset.flushEachUpTo === 'every-id' ? LAST_ID : this.#table.lastBdf;
    for (let id = 0; id <= last; id++) {
      const errno = command(this.queue, id);
      if (errno !== 0) return errno;
    }
    return this.queue.wait();
  }

  /**
   * Hands over what is logged, and starts the log again if events were lost (amd_iommu_handle_irq). Status bits are cleared
   * first: an event that comes in meanwhile sets them anew.
   */
  pollEvents(handler: (event: AmdEvent) => void): void {
    const status = this.#base + amdvi.STATUS_REG;
    const before = this.#platform.readl(status);
    this.#platform.writel(status, amdvi.STATUS_EVENT_LOG_INT | amdvi.STATUS_EVENT_OVERFLOW);
    this.events.drain(handler);
    if ((before & amdvi.STATUS_EVENT_OVERFLOW) !== 0) this.#restartEventLog();
  }

  /**
   * amd_iommu_restart_event_logging: the overflow bit goes while logging is off. Nothing is logged while it stands, and nothing
   * after it until the enable bit went from 0 to 1.
   */
  #restartEventLog(): void {
    this.#control(0, amdvi.CONTROL_EVENT_LOG_EN);
    this.#platform.writel(this.#base + amdvi.STATUS_REG, amdvi.STATUS_EVENT_OVERFLOW);
    this.#control(amdvi.CONTROL_EVENT_LOG_EN, 0);
  }
}
