export { CallReader } from './call-reader.ts';
export { CommandFile, CommandMerge } from './command-merge.ts';
export type { JudgeOptions } from './judge.ts';
export { judge } from './judge.ts';
export type { AuditContract, AuditEvidence, AuditFinding, AuditResult, AuditVerdict, EvidenceRole } from './result.ts';
export { MAX_FINDINGS } from './result.ts';
