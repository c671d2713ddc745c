# Completion of pg_standby for fish.

complete -c pg_standby -s c -l copy -d 'Accepted, no effect: files are always copied'
complete -c pg_standby -s d -l debug -d 'Log every step'
complete -c pg_standby -s k -l keep-files -x -d 'Keep N segments before this one'
complete -c pg_standby -s l -l link -d 'Accepted, no effect: files are never linked'
complete -c pg_standby -s r -l max-retries -x -d 'Retry a failed copy up to N times'
complete -c pg_standby -s s -l sleep-time -x -d 'Polling interval in seconds, 0.1 to 60'
complete -c pg_standby -s t -l trigger-file -r -F -d 'Fail over when FILE exists'
complete -c pg_standby -s w -l max-wait-time -x -d 'Fail over, fast, after S seconds'
complete -c pg_standby -l no-wait -d 'Look once, for standby mode'
complete -c pg_standby -l on-error -x -a 'hold promote' -d 'Effect of an error on recovery'
complete -c pg_standby -l require-file -x -d 'Archive is mounted only if it holds NAME'
complete -c pg_standby -l partial -d 'Take SEGMENT.partial too'
complete -c pg_standby -l verify -x -a 'records header' -d 'Check every record, or the header'
complete -c pg_standby -l standby-name -x -d 'Name of this standby, in a shared archive'
complete -c pg_standby -l log-file -r -F -d 'Append messages to FILE as well'
complete -c pg_standby -l prune -d 'Prune the archive, restore nothing'
complete -c pg_standby -s n -l dry-run -d 'With --prune: print what would be removed'
complete -c pg_standby -s V -l version -d 'Print the version'
complete -c pg_standby -s '?' -l help -d 'Print a summary'

# The first operand is a directory, the others are files.
complete -c pg_standby -n __fish_is_first_arg -f -a '(__fish_complete_directories)'
