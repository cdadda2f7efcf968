# Turns the console of a machine that records (lines "@rec …") into OUT/NAME.rec files.
# A scenario without its end met a crash of the host: its last command gets "= HOST CRASH", its events go
# (the crash took those of the last step), and what the kernel said goes to OUT/NAME.oops.
# Writes the names of the scenarios that were begun to DONE, one a line.
# Needs: -v out=DIR -v finished=FILE

function forget() { lines = 0; name = "" }

function write_rec(crashed,    i, path, head) {
	path = out "/" name ".rec"
	head = line[1]
	if (crashed && head !~ /, no events$/) head = head ", no events"
	print head > (path ".tmp")
	for (i = 2; i <= lines; i++)
		if (!crashed || (line[i] !~ /^~/ && line[i] != "# end")) print line[i] > (path ".tmp")
	if (crashed) print "= HOST CRASH\n# end" > (path ".tmp")
	close(path ".tmp")
	system("mv '" path ".tmp' '" path "'")
}

{ sub(/\r$/, "") }

!match($0, /@rec /) { if (name != "") said[++talk] = $0; else if (talk < 200) said[++talk] = $0; next }

{ text = substr($0, RSTART + 5) }

text ~ /^begin / {
	name = substr(text, 7); lines = 0; talk = 0; failed = 0
	print name > finished; fflush(finished)
	next
}
text ~ /^end / {
	status = substr(text, 5) + 0
	if (status == 0) write_rec(0)
	else if (!failed) print "record.sh: " name ": the recorder ended with status " status > "/dev/stderr"
	forget(); next
}
text ~ /^off/ { off = 1; next }
text ~ /^! / { print "record.sh: " substr(text, 3) > "/dev/stderr"; failed = 1; next }
name != "" { line[++lines] = text }

END {
	if (name != "" && lines > 3) {
		crash = 0
		for (i = 1; i <= talk; i++) {
			print said[i] > (out "/" name ".oops")
			if (said[i] ~ /Internal error|Kernel panic|Unable to handle|BUG:|Oops/) crash = 1
		}
		if (crash) { write_rec(1); print "record.sh: " name ": the host crashed (" out "/" name ".oops)" > "/dev/stderr" }
		else print "record.sh: " name ": the machine stopped in it, without a word of a crash" > "/dev/stderr"
	} else if (!off) {
		print "record.sh: the machine said:" > "/dev/stderr"
		for (i = 1; i <= talk; i++) print "  " said[i] > "/dev/stderr"
	}
}
