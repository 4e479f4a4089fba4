/**
 * Runs as a Perfetto trace (ui.perfetto.dev, trace_processor), written while they are played: nothing of it is kept.
 *
 * A run is a track, under it each address space, under that: `maps` and `unmaps` (instants), `invalidations` (instants; waits are
 * none), `stale windows` (slices from the unmap to the flush after which the range cannot be reached; as many tracks of that name
 * as overlap) and `violations` (instants). What belongs to no address space stands right under the run. Timestamps are ns of the
 * recording's clock.
 *
 * Field numbers: protos/perfetto/trace of github.com/google/perfetto at ec5d16b14b74 (2026-08-22): trace_packet.proto,
 * track_event/track_event.proto, track_event/track_descriptor.proto, track_event/debug_annotation.proto,
 * interned_data/interned_data.proto.
 */
import { CommandKind } from '../replay/index.ts';
import type { RunObserver } from '../replay/index.ts';
import { ProtoBuffer } from './protobuf.ts';

const Trace = { packet: 1 } as const;
const Packet = {
  timestamp: 8,
  trustedPacketSequenceId: 10,
  trackEvent: 11,
  internedData: 12,
  sequenceFlags: 13,
  trackDescriptor: 60,
} as const;
/** TracePacket.SequenceFlags. */
const Sequence = { cleared: 1, needsState: 2 } as const;
const Descriptor = { uuid: 1, name: 2, parentUuid: 5 } as const;
const Event = { debugAnnotations: 4, type: 9, nameIid: 10, trackUuid: 11 } as const;
/** TrackEvent.Type. */
const Type = { sliceBegin: 1, sliceEnd: 2, instant: 3 } as const;
const Annotation = { nameIid: 1, boolValue: 2, uintValue: 3, pointerValue: 7 } as const;
const Interned = { eventNames: 2, debugAnnotationNames: 3 } as const;
const InternedName = { iid: 1, name: 2 } as const;

/** The one writer of the file. */
const SEQUENCE = 1;

/** Names of events; the interning id is the place + 1. */
const EVENT_NAMES = [
  'map',
  'unmap',
  'unmap (queued)',
  'page-selective',
  'domain-selective',
  'global',
  'context or device entry',
  'other command',
  'stale window',
  'not present',
  'stale',
] as const;
type EventName = (typeof EVENT_NAMES)[number];
const ANNOTATION_NAMES = ['iova', 'pages'] as const;

const PAGE = 4096;
const FLUSH_BYTES = 1 << 15;
const NO_DOMAIN = -1;

const idOf = (name: EventName): number => EVENT_NAMES.indexOf(name) + 1;
const MAP = idOf('map');
const UNMAP = idOf('unmap');
const QUEUED_UNMAP = idOf('unmap (queued)');
const WINDOW = idOf('stale window');
const NOT_PRESENT = idOf('not present');
const STALE = idOf('stale');
/** Of each CommandKind; 0 for a wait. */
const COMMANDS: readonly number[] = commandNames();

function commandNames(): number[] {
  const names: number[] = [];
  names[CommandKind.page] = idOf('page-selective');
  names[CommandKind.domain] = idOf('domain-selective');
  names[CommandKind.global] = idOf('global');
  names[CommandKind.context] = idOf('context or device entry');
  names[CommandKind.wait] = 0;
  names[CommandKind.other] = idOf('other command');
  return names;
}

/** Tracks of one address space, 0 for one that has nothing yet. */
interface DomainTracks {
  readonly uuid: number;
  maps: number;
  unmaps: number;
  invalidations: number;
  violations: number;
  /** By lane: the track, and where its last window ended. */
  readonly windows: number[];
  readonly windowEnds: number[];
}

/** The writer of one file. */
export class PerfettoTrace {
  readonly #out = new ProtoBuffer();
  readonly #write: (bytes: Uint8Array) => void;
  #nrTracks = 0;

  /** @param write gets the file piece by piece, each valid during the call */
  constructor(write: (bytes: Uint8Array) => void) {
    this.#write = write;
    const packet = this.#begin(Sequence.cleared);
    const interned = this.#out.begin(Packet.internedData);
    for (const [field, names] of [
      [Interned.eventNames, EVENT_NAMES],
      [Interned.debugAnnotationNames, ANNOTATION_NAMES],
    ] as const) {
      for (const [index, name] of names.entries()) {
        const entry = this.#out.begin(field);
        this.#out.number(InternedName.iid, index + 1);
        this.#out.string(InternedName.name, name);
        this.#out.end(entry);
      }
    }
    this.#out.end(interned);
    this.#end(packet);
  }

  /** The observer of one run. @param name of its track @param devices names of address spaces, by domain */
  run(name: string, devices: readonly string[]): RunObserver {
    return new PerfettoRun(this, this.track(name, 0), devices);
  }

  /** Writes what is left. */
  finish(): void {
    this.#write(this.#out.take());
  }

  /** A new track. @param parent its track, 0 for none @returns its uuid */
  track(name: string, parent: number): number {
    this.#nrTracks += 1;
    const packet = this.#begin(0);
    const descriptor = this.#out.begin(Packet.trackDescriptor);
    this.#out.number(Descriptor.uuid, this.#nrTracks);
    this.#out.string(Descriptor.name, name);
    if (parent !== 0) this.#out.number(Descriptor.parentUuid, parent);
    this.#out.end(descriptor);
    this.#end(packet);
    return this.#nrTracks;
  }

  instant(track: number, name: number, timeNs: number, iova: number, nrPages: number): void {
    this.#event(Type.instant, track, name, timeNs, iova, nrPages);
  }

  slice(track: number, name: number, fromNs: number, toNs: number, iova: number, nrPages: number): void {
    this.#event(Type.sliceBegin, track, name, fromNs, iova, nrPages);
    this.#event(Type.sliceEnd, track, 0, toNs, -1, 0);
  }

  /** @param name 0 for none @param iova negative for neither address nor pages */
  #event(type: number, track: number, name: number, timeNs: number, iova: number, nrPages: number): void {
    const out = this.#out;
    const packet = this.#begin(Sequence.needsState);
    out.number(Packet.timestamp, Math.max(0, Math.round(timeNs)));
    const event = out.begin(Packet.trackEvent);
    out.number(Event.type, type);
    out.number(Event.trackUuid, track);
    if (name !== 0) out.number(Event.nameIid, name);
    if (iova >= 0) {
      this.#annotation(1, Annotation.pointerValue, iova);
      this.#annotation(2, Annotation.uintValue, nrPages);
    }
    out.end(event);
    this.#end(packet);
  }

  #annotation(name: number, field: number, value: number): void {
    const annotation = this.#out.begin(Event.debugAnnotations);
    this.#out.number(Annotation.nameIid, name);
    this.#out.number(field, value);
    this.#out.end(annotation);
  }

  #begin(flags: number): number {
    const packet = this.#out.begin(Trace.packet);
    this.#out.number(Packet.trustedPacketSequenceId, SEQUENCE);
    if (flags !== 0) this.#out.number(Packet.sequenceFlags, flags);
    return packet;
  }

  #end(packet: number): void {
    this.#out.end(packet);
    if (this.#out.length >= FLUSH_BYTES) this.#write(this.#out.take());
  }
}

class PerfettoRun implements RunObserver {
  readonly #trace: PerfettoTrace;
  readonly #uuid: number;
  readonly #devices: readonly string[];
  readonly #domains: (DomainTracks | undefined)[] = [];
  /** Of what belongs to no address space; 0 until there is something. */
  #invalidations = 0;

  constructor(trace: PerfettoTrace, uuid: number, devices: readonly string[]) {
    this.#trace = trace;
    this.#uuid = uuid;
    this.#devices = devices;
  }

  map(domain: number, iova: number, nrBytes: number, timeNs: number): void {
    const tracks = this.#tracksOf(domain);
    tracks.maps ||= this.#trace.track('maps', tracks.uuid);
    this.#trace.instant(tracks.maps, MAP, timeNs, iova, pagesOf(nrBytes));
  }

  unmap(domain: number, iova: number, nrBytes: number, timeNs: number, isQueued: boolean): void {
    const tracks = this.#tracksOf(domain);
    tracks.unmaps ||= this.#trace.track('unmaps', tracks.uuid);
    this.#trace.instant(tracks.unmaps, isQueued ? QUEUED_UNMAP : UNMAP, timeNs, iova, pagesOf(nrBytes));
  }

  command(kind: CommandKind, domain: number, iova: number, nrPages: number, timeNs: number): void {
    const name = COMMANDS[kind];
    if (name === 0) return;
    const track = domain === NO_DOMAIN ? this.#ownInvalidations() : this.#invalidationsOf(domain);
    this.#trace.instant(track, name, timeNs, kind === CommandKind.page ? iova : -1, nrPages);
  }

  violation(isNotPresent: boolean, domain: number, iova: number, nrPages: number, timeNs: number): void {
    const tracks = this.#tracksOf(domain);
    tracks.violations ||= this.#trace.track('violations', tracks.uuid);
    this.#trace.instant(tracks.violations, isNotPresent ? NOT_PRESENT : STALE, timeNs, iova, nrPages);
  }

  windowClosed(domain: number, iova: number, nrBytes: number, queuedNs: number, flushedNs: number): void {
    const { uuid, windows, windowEnds } = this.#tracksOf(domain);
    // Slices of one track must nest, and windows need not: each goes to the first track that is free by then.
    let lane = 0;
    while (lane < windowEnds.length && windowEnds[lane] > queuedNs) lane += 1;
    windows[lane] ??= this.#trace.track('stale windows', uuid);
    windowEnds[lane] = flushedNs;
    this.#trace.slice(windows[lane], WINDOW, queuedNs, flushedNs, iova, pagesOf(nrBytes));
  }

  #tracksOf(domain: number): DomainTracks {
    const known = this.#domains[domain];
    if (known !== undefined) return known;
    const name = this.#devices[domain] ?? `domain ${domain}`;
    const uuid = this.#trace.track(name, this.#uuid);
    const made = { uuid, maps: 0, unmaps: 0, invalidations: 0, violations: 0, windows: [], windowEnds: [] };
    this.#domains[domain] = made;
    return made;
  }

  #invalidationsOf(domain: number): number {
    const tracks = this.#tracksOf(domain);
    tracks.invalidations ||= this.#trace.track('invalidations', tracks.uuid);
    return tracks.invalidations;
  }

  #ownInvalidations(): number {
    this.#invalidations ||= this.#trace.track('invalidations', this.#uuid);
    return this.#invalidations;
  }
}

function pagesOf(nrBytes: number): number {
  return Math.ceil(nrBytes / PAGE);
}
