/** A start that failed, with what LXC said about it: lines for the task's log. */
export class StartFailure extends Error {
  readonly lines: readonly string[];
  constructor(message: string, lines: readonly string[]) {
    super(message);
    this.lines = lines;
  }
}
