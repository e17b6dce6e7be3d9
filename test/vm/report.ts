/** What became of one test in the virtual machine, as one line of the stream that comes out of it. */
export type Report = {
  /** With the names of what it is part of. */
  readonly name: string;
  readonly passed: boolean;
  readonly milliseconds: number;
  readonly skipped?: string;
  readonly error?: string;
};

const MARK = "@test ";

export const formatReport = (report: Report): string => `${MARK}${JSON.stringify(report)}\n`;

/** Undefined for a line that is something else. */
export const parseReport = (line: string): Report | undefined =>
  line.startsWith(MARK) ? (JSON.parse(line.slice(MARK.length)) as Report) : undefined;
