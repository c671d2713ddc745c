# Completion of pg_standby for fish.

complete -c pg_standby -s c -l copy -d 'Copy, the only way there is'
complete -c pg_standby -s d -l debug -d 'Log every step'
complete -c pg_standby -s k -l keep-files -x -d 'Keep N segments before this one'
complete -c pg_standby -s l -l link -d 'Accepted, does nothing'
complete -c pg_standby -s r -l max-retries -x -d 'Retries of a copy that failed'
complete -c pg_standby -s s -l sleep-time -x -d 'Seconds between looks, 0.1 to 60'
complete -c pg_standby -s t -l trigger-file -r -F -d 'Fail over when FILE is there'
complete -c pg_standby -s w -l max-wait-time -x -d 'Fail over, fast, after S seconds'
complete -c pg_standby -l no-wait -d 'Look once, for standby mode'
complete -c pg_standby -l on-error -x -a 'hold promote' -d 'What an error does to recovery'
complete -c pg_standby -l require-file -x -d 'No archive unless it holds NAME'
complete -c pg_standby -l standby-name -x -d 'Which of the standbys on this archive it is'
complete -c pg_standby -l prune -d 'Prune the archive, restore nothing'
complete -c pg_standby -s n -l dry-run -d 'With --prune: print what would be removed'
complete -c pg_standby -s V -l version -d 'Print the version'
complete -c pg_standby -s '?' -l help -d 'Print a summary'

# The first operand is a directory, the others are files.
complete -c pg_standby -n __fish_is_first_arg -f -a '(__fish_complete_directories)'
