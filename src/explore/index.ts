/**
 * Exploration as a library: all interleavings of some actors, for whoever wants to look at the states.
 *
 *   const machine = machineFor(program.machine, variant, { watchReads: true });     // the registry watches reads
 *   runProgram(program, variant, machine, { …, onPar: (par) => {
 *     const system = new ScriptSystem(machine, par);                 // or any System of your own
 *     machine.sim.state.startRecording();
 *     const outcomes = new Set<string>();
 *     const found = new Search(system, {
 *       end: () => void outcomes.add(outcomeOf(machine)),            // every terminal state, once
 *       again: () => outcomes.clear(),                               // the search began anew: it had not known all
 *     }, { bound: 3 }).run();
 *     …                                                              // found.ending is "complete", or what cut it off
 *     return true;                                                   // the run ends here
 *   } });
 *
 * What an observer keeps of the states it sees must not depend on the order of visits; to return a text from
 * `step` or `end` ends the search with a violation, whose `path` says which actor took each step. An actor is
 * deterministic: hardware that may do one of several things is several actors.
 */
export { Search, type Ending, type Path, type SearchOptions, type SearchResult, type Violation } from "./search.js";
export { ScriptSystem } from "./scriptsystem.js";
export { IGNORED, SHARED, type Observer, type System } from "./system.js";
