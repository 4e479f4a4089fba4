export type { ContractId, Finding, FindingKind } from './finding.ts';
export type { Possible } from './possible.ts';
export type { SanitizerCounts, SanitizerOptions } from './sanitizer.ts';
export { Sanitizer } from './sanitizer.ts';
