declare const highlighter: import("../js/view/code.js").Highlighter;
export default highlighter;
