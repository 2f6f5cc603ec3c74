// What autocapture.js puts on every page: docs/autocapture.md. Reference it, or copy it into the project's types.

/** What an event says beside its name. Values that look like secrets or personal numbers are replaced by `***`. */
interface PhasewatchProperties {
  readonly [name: string]: PhasewatchValue | undefined;
}

/** At most 200 objects and arrays an event, 200 entries each, 2,000 characters a string. */
type PhasewatchValue = string | number | boolean | null | Date | readonly PhasewatchValue[] | PhasewatchProperties;

interface Phasewatch {
  /**
   * The person is known from now on: all later events carry this id, on later pages too.
   * @param userId the shop's own id; an e-mail address or a phone number would stand in every event.
   */
  identify(userId: string | number): void;

  /** Forgets who it is and starts a new anonymous id and a new session: at logout. */
  reset(): void;

  /**
   * Records something that no click tells.
   * @param name what happened; definitions match it as `event`.
   */
  track(name: string, properties?: PhasewatchProperties): void;

  /**
   * Keeps the person's decision. `true` starts capturing where the tag says `data-consent="required"`; `false` removes
   * all that is stored, but the decision, and falls silent, in all tabs.
   */
  consent(given: boolean): void;
}

interface Window {
  /** Missing until the script has run. */
  readonly phasewatch?: Phasewatch;
}

declare var phasewatch: Phasewatch;
