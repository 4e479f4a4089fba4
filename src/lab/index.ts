export type { LabAction, Scope } from './action.ts';
export { LAST_PAGE, MOST_ACTIONS, MOST_MS, MOST_PAGES, formatActions, parseActions } from './action.ts';
export { amdCommandView, vtdDescriptor } from './commands.ts';
export type { LabConfig } from './config.ts';
export { DEFAULT_CONFIG, formatConfig, parseConfig } from './config.ts';
export { labelOf } from './lab.ts';
export type { LabState } from './link.ts';
export { DEFAULT_IOVA, DEFAULT_STATE, formatState, parseIova, parseState } from './link.ts';
export { machineView } from './machine-view.ts';
export { playProgram, scenarioActions, scenariosFor, snapshotAt } from './play.ts';
export type { SequenceOptions, WantedFinding } from './finding-sequence.ts';
export { checkSequences, findSchedule } from './finding-sequence.ts';
export type { Sequence, SequenceMachine, SequenceStep } from './sequence.ts';
export { MOST_VIEWS, machineAt, sequenceOf } from './sequence.ts';
export type {
  LabProgram,
  LabRun,
  LabSnapshot,
  LoggedFault,
  MappingView,
  MayHold,
  PromiseView,
  Result,
  StepReport,
} from './snapshot.ts';
export type { StoryEnd } from './story.ts';
export { STORY_CALLERS, STORY_STEP, storyEnds, storyProgram } from './story.ts';
export { LabTextError } from './text-error.ts';
export type {
  Answer,
  CachedView,
  CacheView,
  CommandView,
  EntryKind,
  EntryView,
  FaultView,
  Field,
  Focus,
  MachineView,
  QueuedView,
  QueueView,
  WalkView,
} from './view.ts';
export { answerText } from './walk.ts';
