export type { AuditReport } from './audit-report.ts';
export { AUDIT_SCHEMA, auditReport, interruptedAudit } from './audit-report.ts';
export { auditText } from './audit-text.ts';
export type { ReplayReport, TraceFacts } from './replay-report.ts';
export { NOT_GROUPED, REPLAY_SCHEMA, interruptedReport, replayReport } from './replay-report.ts';
export { factsOf } from './trace-facts.ts';
