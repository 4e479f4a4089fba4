/**
 * What the first pass (call-reader.ts) leaves for the second (judge.ts): one record per call, attachment and flush outside of a
 * call, in the order of the events that began them.
 */

/** What a record is of. */
export const RecordKind = {
  /** Nothing: an unmap that is part of the call before it. */
  none: 0,
  /** A map, map_sg or allocation: one or several iommu:map events. */
  map: 1,
  /** iommu:unmap events under one flush. */
  unmap: 2,
  /** iommu:attach_device_to_domain. */
  attach: 3,
  /** Page-selective invalidation outside of any call that it reaches. */
  pageFlush: 4,
  /** Invalidation of a domain, inside of a call or not. */
  domainFlush: 5,
  globalFlush: 6,
} as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

/** Doubles of a record, and where they are. Pages are page numbers; what is not known is -1. */
export const RECORD_DOUBLES = 14;
export const Field = {
  kind: 0,
  /** Line of the event that began it. */
  line: 1,
  /** First page; of an attachment the device's group. */
  start: 2,
  nrPages: 3,
  /** Number of the device in its present attachment (DeviceDomains). */
  device: 4,
  /** Domain of the commands that reach most of it. */
  domain: 5,
  flags: 6,
  /** Line of the first command for it. */
  flushLine: 7,
  /** First page that no command in time reached, and the line of its event. */
  badPage: 8,
  badLine: 9,
  /** Pages that page-selective commands for it selected. */
  selected: 10,
  /** Line of the event that showed that the call was over, -1 when none came. */
  endLine: 11,
  /** A second domain whose commands reach pages of the call. */
  otherDomain: 12,
  /** Time of its first event. */
  timeNs: 13,
} as const;

/** Bits of `flags`. */
export const Flag = {
  /** Every page was reached in time. */
  covered: 1,
  /** Some command for it came before its end. */
  flushed: 2,
  /** What reached it leaves page-directory entries cached. */
  keepsTables: 4,
  /** A mapping one to one, made before its domain was attached: nothing can be cached of it. */
  direct: 8,
  /** A part had its own command only after the context had gone on with another call. */
  late: 16,
  /** A command for it was not waited for. */
  unwaited: 32,
  /** Wide enough, and not of pieces that could be large pages, to have page tables of its own: unmapping it frees them. */
  hasTables: 64,
  /** Reached by a command for a whole domain. */
  wide: 128,
  /** The trace ended, or stopped showing this context, too early to tell. */
  openEnd: 256,
  /** Of an attachment: its context entry was invalidated, as one that was not present. */
  context: 512,
  notPresent: 1024,
  /** Of a domain flush: it belongs to an attachment, no queue of unmaps caused it. */
  attaching: 2048,
  /** Of an attachment: the device's name is no PCI address. */
  noAddress: 4096,
  /** Events were lost before its end. */
  doubtful: 8192,
} as const;
