export type { HardwareFacts, ReplayReport, TraceFacts } from './replay-report.ts';
export { NOT_GROUPED, REPLAY_SCHEMA, interruptedReport, replayReport } from './replay-report.ts';
