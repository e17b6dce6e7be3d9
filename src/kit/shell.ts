/** A word that a POSIX shell reads as it is, whatever stands in it. */
export const shellWord = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
