# Completion of pg_standby for bash. The package bash-completion finds this file, but is not used in it.

_pg_standby() {
    local IFS=$'\n' word=${COMP_WORDS[COMP_CWORD]} option='' operands=() i
    local options=(
        -c --copy -d --debug -k --keep-files -l --link -r --max-retries -s --sleep-time -t --trigger-file
        -w --max-wait-time --no-wait --on-error --require-file --partial --verify --standby-name --log-file --prune
        -n --dry-run --status -D --pgdata --behind --silent -V --version '-?' --help
    )

    # Of the words before: an option that still needs its value, and the operands. Readline splits --option=value into
    # three words.
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${option:+value}${COMP_WORDS[i]} in
            value=) ;;
            value*) option= ;;
            =) option=${COMP_WORDS[i - 1]}= ;; # of an option whose value may be left out
            -[Dkrstw] | --keep-files | --max-retries | --sleep-time | --trigger-file | --max-wait-time | \
                --pgdata | --behind | --silent | --on-error | --verify | --require-file | --standby-name | \
                --log-file) option=${COMP_WORDS[i]} ;;
            -*) ;;
            *) operands+=("${COMP_WORDS[i]}") ;;
        esac
    done
    if [[ $word == '=' ]]; then
        option=${option:-${COMP_WORDS[COMP_CWORD - 1]}=} word=
    fi

    COMPREPLY=()
    case $option in
        -D | --pgdata) _pg_standby_paths -d "$word" ;;
        -t | --trigger-file | --log-file) _pg_standby_paths -f "$word" ;;
        --status=) mapfile -t COMPREPLY < <(compgen -W $'text\njson\nplugin\nprometheus' -- "$word") ;;
        --verify) mapfile -t COMPREPLY < <(compgen -W $'records\nheader' -- "$word") ;;
        --on-error) mapfile -t COMPREPLY < <(compgen -W $'hold\npromote' -- "$word") ;;
        ?*) ;;
        *)
            if [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "${options[*]}" -- "$word")
                return
            fi
            case ${#operands[@]} in
                0) _pg_standby_paths -d "$word" ;;
                2) _pg_standby_paths -f "$word" ;;
                1 | 3)
                    _pg_standby_paths -f "${operands[0]}/$word"
                    COMPREPLY=("${COMPREPLY[@]#"${operands[0]}/"}")
                    ;;
            esac
            ;;
    esac
}

_pg_standby_paths() {
    compopt -o filenames 2>/dev/null # fails outside a completion, in a test
    mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
}

complete -F _pg_standby pg_standby
