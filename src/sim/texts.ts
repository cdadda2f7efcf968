/**
 * Strings as numbers, for fields of events and words of pools. A string's number follows from the string
 * alone, not from when it was first seen: states reached in different ways stay equal and hash alike.
 */
export class Texts {
  private readonly texts = new Map<number, string>();

  /** The number of a string, from 1. Not for hot paths: keep the number. */
  id(text: string): number {
    let h = 0x811c9dc5;
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
    let id = (h >>> 1) + 1;
    // Two strings with one number: the second takes the next.
    while ((this.texts.get(id) ?? text) !== text) id++;
    this.texts.set(id, text);
    return id;
  }
  /** Takes over the strings of others, under their numbers. */
  adopt(from: Texts): void {
    for (const [id, text] of from.texts) this.texts.set(id, text);
  }
  /** The string of a number, "?" if there is none. */
  text(id: number): string {
    return this.texts.get(id) ?? "?";
  }
}
