/**
 * Reads Perfetto traces with protobuf.js, from the published definitions of the fields that a trace of ours has
 * (github.com/google/perfetto at ec5d16b14b74, protos/perfetto/trace): numbers and types as there, other fields left out.
 */
import protobuf from 'protobufjs';

const PROTO = `
syntax = "proto2";
message Trace { repeated TracePacket packet = 1; }
message TracePacket {
  optional uint64 timestamp = 8;
  optional uint32 trusted_packet_sequence_id = 10;
  optional TrackEvent track_event = 11;
  optional InternedData interned_data = 12;
  optional uint32 sequence_flags = 13;
  optional TrackDescriptor track_descriptor = 60;
}
message InternedData {
  repeated Name event_names = 2;
  repeated Name debug_annotation_names = 3;
}
message Name { optional uint64 iid = 1; optional string name = 2; }
message TrackDescriptor {
  optional uint64 uuid = 1;
  optional string name = 2;
  optional uint64 parent_uuid = 5;
}
message TrackEvent {
  enum Type { TYPE_UNSPECIFIED = 0; TYPE_SLICE_BEGIN = 1; TYPE_SLICE_END = 2; TYPE_INSTANT = 3; TYPE_COUNTER = 4; }
  repeated DebugAnnotation debug_annotations = 4;
  optional Type type = 9;
  optional uint64 name_iid = 10;
  optional uint64 track_uuid = 11;
}
message DebugAnnotation {
  optional uint64 name_iid = 1;
  optional uint64 uint_value = 3;
  optional uint64 pointer_value = 7;
}`;

const Trace = protobuf.parse(PROTO, { keepCase: true }).root.lookupType('Trace');

interface Packet {
  readonly timestamp?: number;
  readonly trusted_packet_sequence_id?: number;
  readonly sequence_flags?: number;
  readonly interned_data?: Readonly<
    Record<'event_names' | 'debug_annotation_names', readonly { readonly iid: number; readonly name: string }[]>
  >;
  readonly track_descriptor?: { readonly uuid: number; readonly name: string; readonly parent_uuid?: number };
  readonly track_event?: {
    readonly type: string;
    readonly name_iid?: number;
    readonly track_uuid: number;
    readonly debug_annotations?: readonly Readonly<Record<string, number>>[];
  };
}

/** An instant (`to` as `from`) or a slice, as trace_processor would show it. */
export interface Shown {
  /** Names of its track and those above, the outermost first: `sync-map, lazy/0000:00:04.0/maps`. */
  readonly track: string;
  readonly uuid: number;
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly isSlice: boolean;
  readonly args: Readonly<Record<string, number>>;
}

function packetsOf(bytes: Uint8Array): Packet[] {
  const plain = Trace.toObject(Trace.decode(bytes), { longs: Number, enums: String }) as { packet?: Packet[] };
  return plain.packet ?? [];
}

/** All events of a file in the order of time. @throws Error for what trace_processor would complain of */
export function shownBy(bytes: Uint8Array): Shown[] {
  const tracks = new Map<number, string>();
  const names = { event: new Map<number, string>(), annotation: new Map<number, string>() };
  const events: { packet: Packet; at: number }[] = [];
  for (const [at, packet] of packetsOf(bytes).entries()) {
    const { trusted_packet_sequence_id, sequence_flags = 0, interned_data, track_descriptor, track_event } = packet;
    if (trusted_packet_sequence_id === undefined) throw new Error('a packet of no sequence');
    if (at === 0 && (sequence_flags & 1) === 0) throw new Error('the first packet does not begin the state');
    for (const { iid, name } of interned_data?.event_names ?? []) names.event.set(iid, name);
    for (const { iid, name } of interned_data?.debug_annotation_names ?? []) names.annotation.set(iid, name);
    if (track_descriptor !== undefined) {
      const { uuid, name, parent_uuid } = track_descriptor;
      const parent = parent_uuid === undefined ? '' : tracks.get(parent_uuid);
      if (uuid === 0 || tracks.has(uuid) || parent === undefined) throw new Error(`track ${uuid} is misplaced`);
      tracks.set(uuid, parent === '' ? name : `${parent}/${name}`);
    }
    if (track_event !== undefined) {
      if ((sequence_flags & 2) === 0) throw new Error('an event with names of a state that it does not need');
      events.push({ packet, at });
    }
  }
  events.sort((a, b) => (a.packet.timestamp ?? 0) - (b.packet.timestamp ?? 0) || a.at - b.at);
  const shown: { -readonly [K in keyof Shown]: Shown[K] }[] = [];
  const open = new Map<number, { to: number }>();
  for (const { packet } of events) {
    const { timestamp = -1, track_event } = packet;
    if (track_event === undefined) continue;
    const { type, name_iid = 0, track_uuid, debug_annotations = [] } = track_event;
    const track = tracks.get(track_uuid);
    if (track === undefined) throw new Error(`an event of track ${track_uuid}, which is not there`);
    if (type === 'TYPE_SLICE_END') {
      const slice = open.get(track_uuid);
      if (slice === undefined) throw new Error('the end of a slice that did not begin');
      slice.to = timestamp;
      open.delete(track_uuid);
      continue;
    }
    if (open.has(track_uuid)) throw new Error(`${track} has slices within each other`);
    const args: Record<string, number> = {};
    for (const { name_iid: key, ...value } of debug_annotations) {
      args[names.annotation.get(key) ?? '?'] = Object.values(value)[0] ?? NaN;
    }
    const isSlice = type === 'TYPE_SLICE_BEGIN';
    const event = {
      track,
      uuid: track_uuid,
      name: names.event.get(name_iid) ?? '?',
      from: timestamp,
      to: isSlice ? NaN : timestamp,
      isSlice,
      args,
    };
    shown.push(event);
    if (isSlice) open.set(track_uuid, event);
  }
  if (open.size > 0) throw new Error('a slice without an end');
  return shown;
}
