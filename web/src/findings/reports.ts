/** Reads what users drop: a schedule, a report of `check` or one of `audit`. Every member is checked before anything is shown. */
import * as v from 'valibot';

export const MOST_TEXT = 16 << 20;
const MOST_FINDINGS = 10_000;

const text = v.pipe(v.string(), v.maxLength(20_000));
const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const address = v.pipe(v.string(), v.regex(/^0x[0-9a-f]{1,16}$/, 'must be a hexadecimal address'));
const CheckFinding = v.object({
  scenario: text,
  setup: text,
  // What it is in detail is checked where it is played (readSetup).
  given: v.optional(v.nullable(v.record(v.string(), v.unknown())), null),
  verdict: v.picklist(['held', 'violated', 'failed']),
  contract: v.nullable(text),
  call: v.nullable(text),
  iova: v.nullable(address),
  nrBytes: whole,
  sid: v.pipe(v.number(), v.integer()),
  message: v.nullable(text),
  more: whole,
  detail: v.record(v.string(), v.unknown()),
  seed: v.exactOptional(whole),
  calls: v.exactOptional(v.pipe(v.array(text), v.maxLength(10_000))),
});

const Check = v.object({
  schema: v.literal('iommukit.check/1'),
  driver: v.nullable(text),
  findings: v.pipe(v.array(CheckFinding), v.maxLength(MOST_FINDINGS)),
});

const AuditFindingSchema = v.object({
  contract: v.picklist(['C-MAP-VISIBLE', 'C-UNMAP-GONE', 'C-TABLE-LIVE', 'C-LAZY-BOUND', 'C-ATTACH']),
  line: whole,
  iova: v.nullable(address),
  domain: v.nullable(whole),
  detail: text,
});

const Audit = v.object({
  schema: v.literal('iommukit.audit/1'),
  trace: v.object({ file: text }),
  findings: v.pipe(v.array(AuditFindingSchema), v.maxLength(MOST_FINDINGS)),
  nrFindings: whole,
});

export type CheckFile = v.InferOutput<typeof Check>;
export type AuditFile = v.InferOutput<typeof Audit>;
export type AuditFinding = v.InferOutput<typeof AuditFindingSchema>;

export type Dropped =
  | { readonly kind: 'schedule'; readonly text: string }
  | { readonly kind: 'check'; readonly report: CheckFile }
  | { readonly kind: 'audit'; readonly report: AuditFile };

/** A file that is none of the three. The message is for people. */
export class FileProblem extends Error {
  override readonly name = 'FileProblem';
}

const WANTED =
  'The findings view reads a schedule (iommukit check --explore --save), the JSON of iommukit check --json, or that of iommukit audit --json.';

/** Text of a stranger, short enough for a message. */
export function cut(given: string): string {
  return given.length > 60 ? `${given.slice(0, 60)}…` : given;
}

/** @throws FileProblem for anything else than the three */
export function readDropped(given: string): Dropped {
  if (given.length > MOST_TEXT) {
    throw new FileProblem(`The file has ${given.length} characters; at most ${MOST_TEXT} are read.`);
  }
  let json: unknown;
  try {
    json = JSON.parse(given);
  } catch {
    throw new FileProblem(`The file is not JSON. ${WANTED}`);
  }
  const schema = v.safeParse(v.object({ schema: v.string() }), json);
  if (!schema.success) throw new FileProblem(`The file is JSON, but it names no schema. ${WANTED}`);
  const name = schema.output.schema;
  if (name === 'iommukit.schedule/1') return { kind: 'schedule', text: given };
  if (name === 'iommukit.check/1') return { kind: 'check', report: parsed(Check, json) };
  if (name === 'iommukit.audit/1') return { kind: 'audit', report: parsed(Audit, json) };
  throw new FileProblem(`The file's schema is '${cut(name)}', which this view does not know. ${WANTED}`);
}

function parsed<T extends v.GenericSchema>(schema: T, json: unknown): v.InferOutput<T> {
  const result = v.safeParse(schema, json, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = v.getDotPath(issue) ?? 'the file';
  throw new FileProblem(`The file cannot be used: ${cut(path)}: ${cut(issue.message)}.`);
}
