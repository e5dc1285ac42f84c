package ledger

// Spoke is what an idle connection is asked before it is used again.
var Spoke = spoke
