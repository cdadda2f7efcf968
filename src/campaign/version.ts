/** The release: what a submitter and its workers must have in common. */
declare const __FAULTLINE_VERSION__: string | undefined;
export const VERSION = typeof __FAULTLINE_VERSION__ === "string" ? __FAULTLINE_VERSION__ : "0.0.0-source";
