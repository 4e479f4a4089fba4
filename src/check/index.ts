export { CommandCounter } from './command-counter.ts';
export type { DisputeRow } from './dispute.ts';
export { disputeRow, disputeSetups } from './dispute.ts';
export type { Breach, ContractId, Judge, UnitPlace } from './judge.ts';
export { NoJudge } from './judge.ts';
export type { KnownFault } from './known-faults.ts';
export { KNOWN_FAULTS, knownFault, mapFlushOf } from './known-faults.ts';
export { KNOWN_WORLD } from './known-world.ts';
export type { Started } from './machines.ts';
export { makeMachine } from './machines.ts';
export type { ContractMutant, KnownBug, Mutant, TestedMutant } from './mutants/mutant.ts';
export { LEFT_OUT, MUTANTS, NR_BUGS, bugOf } from './mutants/registry.ts';
export type { MutantResult } from './mutants/run.ts';
export { findingsOf, runMutant, runMutants } from './mutants/run.ts';
export type { Outcome, Verdict } from './play.ts';
export { judged, play } from './play.ts';
export type { Step } from './program.ts';
export { ProgramRun, randomProgram, randomSetup } from './program.ts';
export type { NegativeOracle } from './negative/oracle.ts';
export { NEGATIVE_LEFT_OUT, NEGATIVE_ORACLES } from './negative/index.ts';
export { isCaught, playOracle } from './negative/run.ts';
export type { Sighting } from './probe-judge.ts';
export { ProbeJudge } from './probe-judge.ts';
export type { PagePromise } from './promises.ts';
export { Promises } from './promises.ts';
export type { RandomFailure } from './random.ts';
export { PROGRAM_STEPS, playProgram, randomCase } from './random.ts';
export type { CheckReport, FindingReport, KnownFaultReport, MutantReport, ScenarioReport } from './report.ts';
export { CheckSummary } from './report.ts';
export { SanitizerJudge } from './sanitizer-judge.ts';
export type { Scenario } from './scenario.ts';
export { applies, setupFor } from './scenario.ts';
export { SCENARIOS } from './scenarios/index.ts';
export type { Arch, CallerKind, DriverFactory, DriverSetup, StageSetup } from './setup.ts';
export { ARCHES, CALLERS } from './setup.ts';
export { shrink } from './shrink.ts';
export type { SpaceHost } from './space-host.ts';
export { StageError } from './space-host.ts';
export type { Chunks, Space } from './space.ts';
export { READ_WRITE } from './space.ts';
export { DEVICES, Stage } from './stage.ts';
export type { Case, CaseResult, SuiteChoice } from './suite.ts';
export { PRESETS_OF, isFinding, playCase, setupText, suiteCases, suiteSetups } from './suite.ts';
export type { Agreement, AgreementCase, Compared } from './explorer/agreement.ts';
export { agreement, mutantCases, scenarioCases } from './explorer/agreement.ts';
export { amdCommand, vtdCommand, vtdRegisterCommand } from './explorer/commands.ts';
export { deviceName } from './explorer/decision.ts';
export type { Counterexample, Exploration, ExploreOptions, ExploreVerdict, Reachable } from './explorer/explore.ts';
export { explore } from './explorer/explore.ts';
export type { HeldEntry, Mark, MarkKind, Marks } from './explorer/marks.ts';
export type { PlayedStep, Watcher } from './explorer/player.ts';
export type { PlayedSchedule, Schedule, ScheduledSetup, ScheduleWorld } from './explorer/schedule.ts';
export {
  ScheduleError,
  loadSchedule,
  playSchedule,
  readSetup,
  saveSchedule,
  watchSchedule,
} from './explorer/schedule.ts';
