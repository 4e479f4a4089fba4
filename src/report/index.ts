export type { ReplayReport, TraceFacts } from './replay-report.ts';
export { REPLAY_SCHEMA, replayReport } from './replay-report.ts';
