/** Events as numbers: one becomes an object when somebody looks at it. A step may have ten thousand, of which a reader sees ten. */
import { eventCatalogue, RECORD_WORDS, type EventBus, type EventRecord } from "../sim/events.js";
import { tellingOf, type Detail } from "./story.js";
import { foldBy, type Folded } from "./text.js";

/** More than there are agents. */
const AGENTS = 65_536;

export class StepEvents {
  private all: readonly EventRecord[] | undefined;

  /** @param words records as in the bus's ring; kept, not copied */
  constructor(
    private readonly bus: EventBus,
    private readonly words: Float64Array,
  ) {}

  get length(): number {
    return this.words.length / RECORD_WORDS;
  }
  /** As objects, made at the first call. */
  get records(): readonly EventRecord[] {
    return (this.all ??= Array.from({ length: this.length }, (_, n) => this.at(n)));
  }
  private at(n: number): EventRecord {
    return this.bus.decode(this.words, n * RECORD_WORDS);
  }

  /** Those that tell the story, repetitions folded: as `fold(telling(records, detail))`. */
  told(detail: Detail): Folded[] {
    const { words } = this;
    const catalogue = eventCatalogue();
    const told = tellingOf(
      {
        length: this.length,
        event: (n) => catalogue[words[n * RECORD_WORDS + 3]!]!.name,
        agent: (n) => words[n * RECORD_WORDS + 2]!,
        field: (n, name) => this.bus.field(words, n * RECORD_WORDS, name),
      },
      detail,
    );
    return foldBy(
      told,
      (n) => words[n * RECORD_WORDS + 3]! * AGENTS + words[n * RECORD_WORDS + 2]!,
      (n) => this.at(n),
    );
  }
}
