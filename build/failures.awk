# Reads the output of go test -v: what a passing test said is left out, what a failing one said is printed with it.

/^=== (RUN|CONT|NAME|PAUSE)/ { test = $3; next }
/^ *--- (PASS|SKIP): / { delete said[$3]; next }
/^ *--- FAIL: / { printf "%s", said[$3]; print; delete said[$3]; next }
/^(ok  |FAIL|\?   )/ {
	if (/^FAIL\t/) for (name in said) printf "%s", said[name] # a panic ends the package in the middle of its tests
	for (name in said) delete said[name]
	test = ""
	print
	fflush()
	next
}
/^PASS$/ { next }
test != "" { said[test] = said[test] $0 "\n"; next }
{ print; fflush() }
