export type { AuditReport } from './audit-report.ts';
export { AUDIT_SCHEMA, auditReport, interruptedAudit } from './audit-report.ts';
export { auditText } from './audit-text.ts';
export type { ReplayReport, TraceFacts } from './replay-report.ts';
export { NOT_GROUPED, REPLAY_SCHEMA, interruptedReport, replayReport } from './replay-report.ts';
export { factsOf } from './trace-facts.ts';
export type { AuditLab, CheckLab, LabData, PackedTimeline, ReplayLab, ScheduleLab, Timeline } from './lab-data.ts';
export { LAB_DATA_ID, LAB_SCHEMA, MAX_REPORT_EVENTS, NO_DEVICE, TimelineKind } from './lab-data.ts';
